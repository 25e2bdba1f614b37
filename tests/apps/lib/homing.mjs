// Homing in a fresh directory, ready to take requests.
import { execFile } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { start } from './child.mjs';
import { assertNotInterrupted, onEnd } from './cleanup.mjs';
import { config } from './config.mjs';
import { get } from './get.mjs';
import { until } from './wait.mjs';

const run = promisify(execFile);

// `terms`: what is spoken at its listeners, as its file says it.
export async function startHoming(binary, apps, terms = ['']) {
  const directory = freshDirectory();
  await mkdir(join(directory, 'state'));
  const file = join(directory, 'homing.yaml');
  const write = (apps) => writeFile(file, config({ directory, apps, terms }));
  await write(apps);

  const child = start('homing', binary, ['run', '-c', file], ['ignore', 'ignore', 'pipe']);
  try {
    const [admin, addresses] = await Promise.all([
      child.announced('its admin address', adminAddress),
      child.announced('its addresses', listenerAddresses(terms.length)),
    ]);
    await until(30_000, 'homing is ready', () => {
      child.assertRunning();
      return isReady(admin);
    });
    // On a connection of its own: a kept one may belong to a worker that leaves.
    const metrics = async () => (await get(`http://${admin}/metrics`, { agent: false, timeout: 5_000 })).body;
    const restart = () => run(binary, ['restart', '-c', file], { timeout: 60_000 });
    const log = async () => lines(await readFile(join(directory, 'access.log'), 'utf8'));
    return { url: `http://${addresses[0]}`, addresses, tail: child.tail, write, metrics, restart, log };
  } catch (error) {
    throw Object.assign(error, { tail: child.tail });
  }
}

function lines(log) {
  return log.trimEnd().split('\n').map((line) => JSON.parse(line));
}

// Without a pause in which a signal could come between the two.
export function freshDirectory() {
  assertNotInterrupted();
  const directory = mkdtempSync(join(tmpdir(), 'homing-apps-'));
  onEnd(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

function adminAddress(text) {
  return /admin listening .*address=(\S+)/.exec(text)?.[1];
}

// Of so many listeners, in their order.
function listenerAddresses(count) {
  const addresses = [];
  return (text) => {
    const address = listenerAddress(text);
    if (address) addresses.push(address);
    return addresses.length === count ? addresses : undefined;
  };
}

// The line of the admin listener would match here too.
function listenerAddress(text) {
  return adminAddress(text) ? undefined : /listening .*address=(\S+)/.exec(text)?.[1];
}

async function isReady(admin) {
  try {
    return (await get(`http://${admin}/readyz`, { timeout: 2_000 })).status === 200;
  } catch {
    return false;
  }
}
