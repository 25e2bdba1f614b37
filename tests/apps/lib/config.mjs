// The configuration of Homing for one scenario.
import { join } from 'node:path';

export const AFFINITY_COOKIE = 'homing-affinity';

export const STICKY = `{ cookie: { name: ${AFFINITY_COOKIE} }, idle: 24h }`;

// An app is `{ name, domain, affinity, limits, backends }`.
// A listener for each of `terms`, which say what is spoken there: more keys, with a comma before them.
export function config({ directory, apps, terms = [''] }) {
  const path = (name) => JSON.stringify(join(directory, name));
  return `\
state_dir: ${path('state')}
server: { threads: 2, grace_period: 2s, restart_grace_period: 1m }
admin: { address: 127.0.0.1:0 }
access_log: { format: json, path: ${path('access.log')} }
listeners:
${terms.map((more) => `  - { address: 127.0.0.1:0${more} }\n`).join('')}\
apps:
${apps.map(app).join('')}`;
}

function app({ name, domain, affinity, limits = '{}', backends }) {
  return `\
  - name: ${name}
    domains: [${domain}]
    affinity: ${affinity}
    limits: ${limits}
    health: { path: /healthz, interval: 1s, timeout: 1s }
    backends:
${backends.map(({ id, address }) => `      - { id: ${id}, address: ${address} }\n`).join('')}`;
}

// The terms of a listener with TLS.
export function overTls({ certificate, key }) {
  return `, tls: { certificates: [{ certificate: ${JSON.stringify(certificate)}, key: ${JSON.stringify(key)} }] }`;
}
