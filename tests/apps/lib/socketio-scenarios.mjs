// Socket.IO without an adapter: all requests of a client belong to one backend.
import { talk } from './clients.mjs';
import { check, note, show, spread } from './report.mjs';

const socketio = 'socketio.mjs';

export const socketioScenarios = [
  { name: 'socket.io', application: socketio, affinity: true, drive: sticky },
  { name: 'socket.io, affinity off', application: socketio, affinity: false, drive: loose },
];

async function sticky(name, url, backends) {
  const clients = await talk(url, { clients: 200, bound: 30_000 });
  const number = (holds) => clients.filter(holds).length;
  const all = (what, holds) => check(`${name}: ${what}`, number(holds) === 200, `${number(holds)} of 200`);
  const refused = number((client) => client.refused);
  const used = spread(clients.map((client) => client.echoes[0]?.backend));

  noteErrors(name, clients);
  all('200 clients connect', (client) => client.id);
  check(`${name}: no client is refused`, refused === 0, `${refused} connect_error`);
  all('each client upgrades to websocket', (client) => client.upgraded);
  all('each client gets 5 echoes in order', ({ echoes }) => echoes.length === 5 && echoes.every(({ n }, i) => n === i + 1));
  all('each client speaks to one backend', ({ echoes }) => new Set(echoes.map((echo) => echo.backend)).size === 1);
  all('each client keeps its socket', (client) => client.stayed && client.echoes.every(({ id }) => id === client.id));
  check(`${name}: every backend is used`, backends.every(({ id }) => used.has(id)), show(used));
}

async function loose(name, url) {
  const clients = await talk(url, { clients: 30, bound: 15_000 });
  const refused = clients.filter((client) => client.refused?.includes('Session ID unknown'));

  noteErrors(name, clients);
  check(`${name}: clients are refused`, refused.length > 0, `${refused.length} of 30 with "Session ID unknown"`);
}

function noteErrors(name, clients) {
  const errors = spread(clients.flatMap((client) => client.error ?? []));
  if (errors.size > 0) note(`${name}: ${show(errors)}`);
}
