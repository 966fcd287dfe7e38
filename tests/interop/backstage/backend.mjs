// A Backstage backend of the vendor's own parts: sign-in, the proxy plugin, and two plugins of ours
// that call the gate as Backstage's plugins call each other.
//   node backend.mjs --config app-config.yaml
import { createBackend } from '@backstage/backend-defaults';
import { coreServices, createBackendModule, createBackendPlugin } from '@backstage/backend-plugin-api';
import { oidcAuthenticator } from '@backstage/plugin-auth-backend-module-oidc-provider';
import { authProvidersExtensionPoint, createOAuthProviderFactory } from '@backstage/plugin-auth-node';

// Who signs in is the user of that name, with the groups that the issuer tells, and with the Entra
// object id as a claim of its own where one is known; a portal with a catalogue reads it there.
const signIn = createBackendModule({
  pluginId: 'auth',
  moduleId: 'people',
  register(env) {
    env.registerInit({
      deps: { config: coreServices.rootConfig, providers: authProvidersExtensionPoint },
      async init({ config, providers }) {
        const objectIds = config.get('people.objectIds');
        const signInResolver = ({ result }, context) => {
          const { preferred_username: name, groups } = result.fullProfile.userinfo;
          const ent = [`user:default/${name}`, ...groups.map((group) => `group:default/${group}`)];
          return context.issueToken({ claims: { sub: ent[0], ent, entra_oid: objectIds[name] } });
        };
        const factory = createOAuthProviderFactory({ authenticator: oidcAuthenticator, signInResolver });
        providers.registerProvider({ providerId: 'oidc', factory });
      },
    });
  },
});

// `/api/ID/WAY/REST` calls REST at the gate in one of the ways that a plugin has to say who it is,
// and answers what came of it.
function caller(pluginId) {
  return createBackendPlugin({
    pluginId,
    register(env) {
      const { auth, discovery, httpAuth, httpRouter } = coreServices;
      env.registerInit({
        deps: { auth, discovery, httpAuth, httpRouter },
        async init({ auth, discovery, httpAuth, httpRouter }) {
          const towards = async (onBehalfOf, targetPluginId) =>
            (await auth.getPluginRequestToken({ onBehalfOf, targetPluginId })).token;
          const ways = {
            'for-the-user': (user) => towards(user, 'amlgate'),
            'by-way-of-azureml': (user) => towards(user, 'azureml'),
            'for-itself': async () => towards(await auth.getOwnServiceCredentials(), 'amlgate'),
            'meant-for-another': (user) => towards(user, 'proxy'),
            'with-the-limited-token': async (user) => (await auth.getLimitedUserToken(user)).token,
          };
          const call = async (request, response) => {
            const user = await httpAuth.credentials(request, { allow: ['user'] });
            const [, way, rest] = /^\/([^/]+)(\/.*)$/.exec(request.url);
            const token = await ways[way](user);
            const base = await discovery.getBaseUrl(way === 'by-way-of-azureml' ? 'azureml' : 'amlgate');
            const url = base + (way === 'by-way-of-azureml' ? `/for-the-user${rest}` : rest);
            const { method } = request;
            const answer = await fetch(url, { method, headers: { authorization: `Bearer ${token}` } });
            const headers = Object.fromEntries(answer.headers);
            response.json({ token, url, status: answer.status, headers, text: await answer.text() });
          };
          httpRouter.use((request, response, next) => call(request, response).catch(next));
        },
      });
    },
  });
}

const backend = createBackend();
backend.add(import('@backstage/plugin-auth-backend'));
backend.add(signIn);
backend.add(import('@backstage/plugin-proxy-backend'));
backend.add(caller('azureml'));
backend.add(caller('scratch'));
await backend.start();
