// Many requests over HTTP/2, by h2load and by clients that go on where they were told to leave, while Homing is
// restarted, and its certificate replaced by good and bad ones.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { startBackends } from './lib/backends.mjs';
import { Authority } from './lib/certificates.mjs';
import { STICKY, overTls } from './lib/config.mjs';
import { Visitors } from './lib/h2-visitors.mjs';
import { freshDirectory, startHoming } from './lib/homing.mjs';
import { check, note, show, spread } from './lib/report.mjs';
import { shown } from './lib/shown.mjs';
import { until } from './lib/wait.mjs';

const NAME = 'shop.test';
const RESTARTS = 5;
const STILL = 5_000;
const CONNECTIONS = 10;
const STREAMS = 20;
const VISITS = 25; // of each of 200 visitors
const run = promisify(execFile);

export async function h2load(binary) {
  const authority = new Authority(freshDirectory());
  const backends = await startBackends('page.mjs');
  // 600 requests at once, and a machine that may be slow: nobody is to be turned away.
  const limits = '{ app_in_flight: 1000 }';
  const app = { name: 'shop', domain: NAME, affinity: STICKY, limits, backends };
  const homing = await startHoming(binary, [app], [', protocols: [h2c]', overTls(authority.issue(NAME, 10))]);
  try {
    const [clear, secure] = homing.addresses;
    await still(['HTTP/2 in the clear', 'http', clear], 0, () => {});
    await still(['HTTP/2 over TLS', 'https', secure], 3, () => swap(authority, secure));
    const answered = 2 * STILL + (await moving(homing, authority));
    await compare(homing, answered);
  } catch (error) {
    throw Object.assign(error, { tail: homing.tail });
  }
}

// While nothing happens, but for new certificates.
async function still([name, scheme, address], swaps, swapOnce) {
  const load = pound(scheme, address, STILL);
  for (let n = 0; n < swaps; n += 1) await swapOnce();
  const { total, succeeded, text } = await load;
  check(`h2load: ${name}: 5000 requests, 10 connections, 20 streams`, total === STILL && succeeded === total, text);
}

// A connection that the server leaves is the end for h2load: what it has not sent counts as failed.
async function moving(homing, authority) {
  const [clear, secure] = homing.addresses;
  const ca = readFileSync(authority.file);
  const visitors = [['http', clear], ['https', secure]].map(([scheme, address]) => {
    const options = { url: `${scheme}://${address}`, authority: `${NAME}:${address.split(':')[1]}`, ca };
    return new Visitors({ ...options, connections: CONNECTIONS, streams: STREAMS });
  });
  const visits = Promise.all(visitors.map((all) => all.visit(VISITS)));
  const begun = { succeeded: 0, isOver: false };
  const pounding = keepPounding(begun, [['http', clear], ['https', secure]]);
  const handshakes = [];
  for (let n = 0; n < RESTARTS; n += 1) {
    handshakes.push(...(await failedHandshakes(homing)));
    const before = visitors.map(({ connections }) => connections);
    await homing.restart();
    const left = ({ connections, failed }, one) => connections >= before[one] + CONNECTIONS || failed.length > 0;
    await until(20_000, 'every connection is left', () => visitors.every(left));
    if (n < 2) await swap(authority, secure);
    if (n === 2) await spoil(authority, secure);
  }
  begun.isOver = true;
  visitors.forEach((all) => all.finish());
  await Promise.all([visits, pounding]);

  report('in the clear', visitors[0]);
  report('over TLS', visitors[1]);
  handshakes.push(...(await failedHandshakes(homing)));
  check('h2load: no handshake failed', handshakes.length === 0, handshakes.join(', '));
  return begun.succeeded;
}

// All that came from h2load has its line, and it got all answers.
async function compare(homing, answered) {
  const lines = async () => (await homing.log()).filter(({ path }) => path === '/healthz');
  await until(10_000, 'the lines', async () => (await lines()).length >= answered);
  const statuses = spread((await lines()).map(({ status }) => status));
  const good = statuses.get(200) === answered && statuses.size === 1;
  const detail = `${answered} arrived; ${show(statuses)} in the log`;
  check('h2load: what comes is answered, and the answer arrives', good, detail);
  const bad = (await lines()).filter(({ status }) => status !== 200);
  const others = spread(bad.map(({ code, failure, detail }) => `${code} ${failure} ${detail ?? ''}`.trim()));
  if (!good) note(`h2load: ${show(others)}`);
}

// Each worker counts its own.
async function failedHandshakes(homing) {
  return (await homing.metrics()).match(/^homing_tls_handshake_failures_total\{.*\} [1-9].*$/gm) ?? [];
}

async function keepPounding(begun, targets) {
  while (!begun.isOver) {
    for (const [scheme, address] of targets) {
      begun.succeeded += (await pound(scheme, address, 500)).succeeded;
    }
  }
}

function report(name, { failed, connections, unseen, lines }) {
  const made = lines.flat().reduce((sum, one) => sum + one.visits, 0);
  const good = failed.length === 0 && made >= VISITS * CONNECTIONS * STREAMS;
  const detail = `${made} visits on ${connections} connections, ${unseen} sent again`;
  const what = `${RESTARTS} restarts and 4 certificates, nothing fails`;
  check(`h2load: ${name}: ${what}`, good, `${detail} ${show(spread(failed))}`.trim());
}

async function pound(scheme, address, requests) {
  const target = ['--connect-to', address, `${scheme}://${NAME}:${address.split(':')[1]}/healthz`];
  const load = ['-n', requests, '-c', CONNECTIONS, '-m', STREAMS].map(String);
  const { stdout } = await run('h2load', [...load, ...target], { timeout: 60_000 });
  const counts = /requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded.*/.exec(stdout);
  const [total, succeeded] = counts.slice(1).map(Number);
  return { total, succeeded, text: counts[0] };
}

async function swap(authority, address) {
  const before = await shown(address, NAME, authority);
  authority.issue(NAME, 10);
  await until(20_000, 'the new certificate', async () => (await shown(address, NAME, authority)) !== before);
}

// What has expired is not taken.
async function spoil(authority, address) {
  const before = await shown(address, NAME, authority);
  authority.issue(NAME, -1);
  await delay(1_000);
  check('h2load: an expired certificate is not taken', (await shown(address, NAME, authority)) === before);
  await swap(authority, address);
}
