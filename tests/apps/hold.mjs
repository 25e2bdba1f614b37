// Socket.IO that is held open while Homing changes:
//   node hold.mjs backends COUNT          prints {"ports": [...]}
//   node hold.mjs clients URL COUNT       prints one JSON line an event
// Both end when standard input does.
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Server } from 'socket.io';
import { io } from 'socket.io-client';
import { within } from './lib/wait.mjs';

const PING = 200;
const PATIENCE = 30_000;

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const ended = new Promise((resolve) => process.stdin.on('end', resolve).resume());

const [what, ...rest] = process.argv.slice(2);
if (what === 'backends') await backends(Number(rest[0]));
else await clients(rest[0], Number(rest[1]));
process.exit(0);

async function backends(count) {
  const ports = await Promise.all(Array.from({ length: count }, (_, n) => backend(`chat.${n + 1}`)));
  say({ ports });
  await ended;
}

// Without an adapter: what reaches another backend is refused with "Session ID unknown".
function backend(id) {
  const server = createServer((req, res) => {
    res.writeHead(req.url === '/healthz' ? 200 : 404).end();
  });
  new Server(server).on('connection', (socket) => {
    let n = 0;
    socket.on('echo', (reply) => reply({ backend: id, id: socket.id, n: (n += 1) }));
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
}

async function clients(url, count) {
  const state = { over: false, held: 0, echoes: 0, count };
  ended.then(() => (state.over = true));
  await Promise.all(Array.from({ length: count }, (_, client) => hold(url, client, state)));
  say({ event: 'end', echoes: state.echoes });
}

// One client: connected, upgraded, heard of every now and then, and connected anew when it is cut.
async function hold(url, client, state) {
  for (let first = true; !state.over; first = false) {
    const begun = Date.now();
    const held = connect(url);
    try {
      const { id } = await within(PATIENCE, 'a connection and its upgrade', held.upgraded);
      say({ event: 'open', client });
      if (first && (state.held += 1) === state.count) say({ event: 'held' });
      await talk(held, id, state);
    } catch (error) {
      if (held.cut) {
        const { backend } = held;
        say({ event: 'cut', client, backend, begun, ended: held.cut, how: error.message });
      } else {
        say({ event: 'trouble', client, how: error.message });
        await delay(50);
      }
    }
    held.socket.disconnect();
  }
}

function connect(url) {
  const socket = io(url, { forceNew: true, reconnection: false, withCredentials: true });
  const held = { socket };
  held.lost = new Promise((_, reject) => {
    socket.on('connect_error', (error) => {
      reject(new Error(`${error.message}: ${error.context?.responseText ?? ''}`));
    });
    socket.on('disconnect', (why) => {
      // Before the upgrade it is no stream yet.
      if (held.isUpgraded) held.cut = Date.now();
      reject(new Error(why));
    });
  });
  held.lost.catch(() => {});
  const connected = new Promise((resolve) => socket.on('connect', () => resolve({ id: socket.id })));
  const upgraded = new Promise((resolve, reject) => {
    socket.io.on('open', () => {
      const { engine } = socket.io;
      engine.on('upgradeError', (error) => reject(new Error(`no upgrade: ${error.message}`)));
      engine.on('upgrade', () => resolve((held.isUpgraded = true)));
    });
  });
  held.upgraded = Promise.race([Promise.all([connected, upgraded]).then(([own]) => own), held.lost]);
  return held;
}

async function talk(held, id, state) {
  for (let n = 1; !state.over; n += 1) {
    const ack = held.socket.timeout(PATIENCE).emitWithAck('echo');
    ack.catch(() => {});
    const reply = await Promise.race([ack, held.lost]);
    held.backend ??= reply.backend;
    if (reply.id !== id || reply.n !== n || reply.backend !== held.backend) {
      throw new Error(`another echo: ${JSON.stringify(reply)}`);
    }
    state.echoes += 1;
    await Promise.race([delay(PING), held.lost]);
  }
}
