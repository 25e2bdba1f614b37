// Real applications and clients around Homing: node run.mjs --homing PATH_TO_BINARY [--only SCENARIO]
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { browser } from './browser.mjs';
import { curl } from './curl.mjs';
import { h2load } from './h2load.mjs';
import { startBackends } from './lib/backends.mjs';
import { cleanUp, cleanUpOnSignals, interruption } from './lib/cleanup.mjs';
import { expressScenarios } from './lib/express-scenarios.mjs';
import { STICKY } from './lib/config.mjs';
import { startHoming } from './lib/homing.mjs';
import { check, failures, note, summary } from './lib/report.mjs';
import { scaleUp } from './lib/scale-up.mjs';
import { socketioScenarios } from './lib/socketio-scenarios.mjs';

const { values } = parseArgs({ options: { homing: { type: 'string' }, only: { type: 'string' } } });
if (!values.homing) {
  console.error('usage: node run.mjs --homing PATH_TO_BINARY [--only SCENARIO]');
  process.exit(1);
}
const binary = resolve(values.homing);
const isMeant = (name) => values.only === undefined || values.only === name;

async function play({ name, application, affinity, drive }) {
  const before = failures();
  let tail = [];
  try {
    const backends = await startBackends(application);
    const app = { name: 'shop', domain: '127.0.0.1', affinity: affinity ? STICKY : 'off', backends };
    const homing = await startHoming(binary, [app]);
    tail = homing.tail;
    await drive(name, homing.url, backends);
  } catch (error) {
    tail = error.tail ?? tail;
    check(`${name}: the scenario runs`, false, error.message);
  } finally {
    await cleanUp();
  }
  if (failures() > before) tail.forEach((text) => note(`homing: ${text}`));
}

async function playAlone(name, drive) {
  try {
    await drive(binary);
  } catch (error) {
    check(`${name}: the scenario runs`, false, error.message);
    error.tail?.forEach((text) => note(`homing: ${text}`));
  } finally {
    await cleanUp();
  }
  if (interruption()) process.exit(interruption());
}

cleanUpOnSignals();
for (const scenario of [...expressScenarios, ...socketioScenarios].filter(({ name }) => isMeant(name))) {
  await play(scenario);
  if (interruption()) process.exit(interruption());
}
for (const [name, drive] of Object.entries({ curl, h2load, browser, 'scale-up': scaleUp })) {
  if (isMeant(name)) await playAlone(name, drive);
}
summary();
process.exit(failures() ? 1 : 0);
