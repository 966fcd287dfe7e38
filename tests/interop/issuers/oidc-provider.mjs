// panva's oidc-provider as an issuer of ES256 access tokens (`typ: at+jwt`) for the audience `amlgate`.
//   node oidc-provider.mjs CERTIFICATE KEY        prints {"issuer": ...} when it listens
// A line on standard input changes its keys, and is answered by a line: `rotate` signs with a new key
// and goes on publishing the old ones; `withdraw` publishes the newest only.
import { createRequire } from 'node:module';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.env.AMLGATE_NODE_MODULES}/`);
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

const [certificate, key] = process.argv.slice(2).map((path) => readFileSync(path));
const server = https.createServer({ cert: certificate, key });
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `https://localhost:${server.address().port}`;

const keys = [];
let made = 0;
function addKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  keys.unshift({ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: `es256-${++made}` });
}

const client = (id) => ({
  client_id: id,
  client_secret: 'not-a-secret-it-lives-for-one-test',
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: 'client_secret_post',
  id_token_signed_response_alg: 'ES256',
});

function provider() {
  return new Provider(issuer, {
    jwks: { keys: keys.map((jwk) => ({ ...jwk })) },
    clients: ['training-job', 'short-lived', 'for-another'].map(client),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:amlgate',
        useGrantedResource: () => true,
        getResourceServerInfo: (_, __, { clientId }) => ({
          scope: 'jobs',
          audience: clientId === 'for-another' ? 'https://elsewhere.example' : 'amlgate',
          accessTokenTTL: clientId === 'short-lived' ? 1 : 600,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  }).callback();
}

addKey();
let serve = provider();
server.on('request', (request, response) => serve(request, response));
console.log(JSON.stringify({ issuer }));
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'rotate') addKey();
  if (line === 'withdraw') keys.splice(1);
  serve = provider();
  console.log(JSON.stringify({ keys: keys.map((jwk) => jwk.kid) }));
}
process.exit(0);
