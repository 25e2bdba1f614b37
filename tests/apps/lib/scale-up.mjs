// Express and Socket.IO get two more backends while clients use them, with rebalancing on.
import { Agent } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { io } from 'socket.io-client';
import { startBackends } from './backends.mjs';
import { get } from './get.mjs';
import { startHoming } from './homing.mjs';
import { Jar } from './jar.mjs';
import { check, show, spread } from './report.mjs';
import { until, within } from './wait.mjs';

const AFFINITY = '{ rebalance: { bound: 1.25, budget_percent: 100, idle: 2s } }';

// A cookie is idle when two clocks that lie a minute apart agree that it is.
const PAUSE_MS = 66_000;
const VISITORS = 40;
const CLIENTS = 20;

export async function scaleUp(binary) {
  const [express, socketio] = await Promise.all([startBackends('express.mjs'), startBackends('socketio.mjs')]);
  const apps = (count) => [
    { name: 'express', domain: '127.0.0.1', affinity: AFFINITY, backends: express.slice(0, count) },
    { name: 'socketio', domain: 'localhost', affinity: AFFINITY, backends: socketio.slice(0, count) },
  ];
  const homing = await startHoming(binary, apps(1));
  const talkUrl = homing.url.replace('127.0.0.1', 'localhost');

  const readers = visitors(VISITORS);
  const busy = visitors(VISITORS / 2);
  const sockets = Array.from({ length: CLIENTS }, (_, i) => connect(talkUrl, i % 2 ? ['websocket'] : ['polling']));
  await within(30_000, 'scale-up: sockets connect', Promise.all(sockets.map(({ connected }) => connected)));
  await Promise.all([...readers, ...busy].map((visitor) => visitOnce(homing.url, visitor)));

  await homing.write(apps(3));
  const open = /homing_backend_admission\{app="(express|socketio)",backend="web.3",admission="open"\} 1\n/g;
  await until(20_000, 'scale-up: the new backends open', async () => [...(await homing.metrics()).matchAll(open)].length === 2);

  // The busy go on all the time; the readers read for more than a minute, then come back one by one.
  const stop = new AbortController();
  const going = keepBusy(homing.url, busy, sockets, stop.signal);
  await delay(PAUSE_MS);
  for (const reader of readers) {
    await visitOnce(homing.url, reader);
    await delay(500);
  }
  stop.abort();
  await going;
  await report(homing, readers, busy, sockets);
  sockets.forEach(({ socket }) => socket.disconnect());
}

function visitors(count) {
  return Array.from({ length: count }, () => ({ jar: new Jar(), answers: [], errors: [] }));
}

async function visitOnce(url, { jar, answers, errors }) {
  try {
    const agent = new Agent({ keepAlive: false });
    const answer = await get(`${url}/visit`, { agent, headers: jar.headers, timeout: 10_000 });
    jar.take(answer.headers['set-cookie']);
    if (answer.status === 200) answers.push(JSON.parse(answer.body));
    else errors.push(`status ${answer.status}`);
  } catch (error) {
    errors.push(error.message);
  }
}

function connect(url, transports) {
  const socket = io(url, { forceNew: true, reconnection: false, withCredentials: true, transports });
  const client = { socket, echoes: [], errors: [] };
  client.connected = new Promise((resolve, reject) => {
    socket.on('connect', resolve);
    socket.on('connect_error', (error) => {
      client.errors.push(error.message);
      reject(error);
    });
  });
  socket.on('disconnect', (why) => client.errors.push(why));
  return client;
}

async function keepBusy(url, busy, sockets, signal) {
  while (!signal.aborted) {
    await Promise.all([
      ...busy.map((visitor) => visitOnce(url, visitor)),
      ...sockets.map(async (client) => {
        try {
          client.echoes.push(await client.socket.timeout(10_000).emitWithAck('echo'));
        } catch (error) {
          client.errors.push(error.message);
        }
      }),
    ]);
    await delay(1_000);
  }
}

async function report(homing, readers, busy, sockets) {
  const errors = [...readers, ...busy, ...sockets].flatMap((one) => one.errors);
  const backends = ({ answers }) => new Set(answers.map(({ backend }) => backend)).size;
  const moved = readers.filter((reader) => backends(reader) > 1);
  const used = spread(readers.map(({ answers }) => answers.at(-1)?.backend));
  const counted = /homing_affinity_requests_total\{app="express",outcome="moved",cause="rebalanced"\} (\d+)/;
  const metric = Number(counted.exec(await homing.metrics())?.[1] ?? 0);
  const grows = ({ answers }) => answers.every(({ visits }, i) => visits === i + 1);
  const talks = ({ echoes }) => echoes.length > 10 && echoes.every(({ n }, i) => n === i + 1);

  check('scale-up: no client sees an error', errors.length === 0, show(spread(errors)));
  check('scale-up: idle visitors move to the new backends', moved.length > 3 && used.size === 3, show(used));
  check('scale-up: each move is counted once', metric === moved.length, `${metric} counted, ${moved.length} seen`);
  check('scale-up: no busy visitor loses its session', busy.every(grows), `${busy[0].answers.length} visits each`);
  check('scale-up: every socket stays and counts on', sockets.every(talks), `${sockets[0].echoes.length} echoes each`);
}
