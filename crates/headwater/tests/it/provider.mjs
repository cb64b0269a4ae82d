// A real OpenID provider (oidc-provider, certified by the OpenID Foundation) for `openid.rs`: client credentials, JWT access
// tokens, one key for each algorithm. The first argument is its port (0 = any); it prints its issuer once it listens.
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const key = (kid, alg, type, options) =>
  ({ ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' });
const keys = [
  key('r', 'RS256', 'rsa', { modulusLength: 2048 }),
  key('e', 'ES256', 'ec', { namedCurve: 'P-256' }),
  key('d', 'EdDSA', 'ed25519', {}),
];

const server = createServer();
server.listen(Number(process.argv[2]), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'plant',
      client_secret: 'a secret of the plant that is long enough',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    }],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        // One resource for each algorithm, so that a test can choose.
        getResourceServerInfo: (_, resource) => ({
          audience: 'https://headwater.example/api',
          scope: 'read:stats read:readings write:readings',
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: new URL(resource).pathname.slice(1) } },
        }),
      },
    },
    jwks: { keys },
    scopes: ['read:stats', 'read:readings', 'write:readings'],
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
