// panva's oidc-provider as an issuer of ES256 access tokens (`typ: at+jwt`) for the audience `amlgate`.
//   node oidc-provider.mjs CERTIFICATE KEY        prints {"issuer": ...} when it listens
import { createRequire } from 'node:module';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.env.AMLGATE_NODE_MODULES}/`);
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

const [certificate, key] = process.argv.slice(2).map((path) => readFileSync(path));
const server = https.createServer({ cert: certificate, key });
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `https://localhost:${server.address().port}`;

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwk = { ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: 'es256-1' };

const provider = new Provider(issuer, {
  jwks: { keys: [jwk] },
  clients: [{
    client_id: 'training-job',
    client_secret: 'not-a-secret-it-lives-for-one-test',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'client_secret_post',
    id_token_signed_response_alg: 'ES256',
  }],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:amlgate',
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'jobs',
        audience: 'amlgate',
        accessTokenTTL: 600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});
server.on('request', provider.callback());
console.log(JSON.stringify({ issuer }));
