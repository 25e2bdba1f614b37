// A child process which announces itself by a line on one of its streams.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { assertNotInterrupted, onEnd } from './cleanup.mjs';
import { within } from './wait.mjs';

const TAIL = 40;

const live = new Set();

// The last resort when the test dies by an error nobody caught.
process.on('exit', () => live.forEach((child) => child.kill('SIGKILL')));

export function start(name, command, args, stdio) {
  assertNotInterrupted();
  const child = spawn(command, args, { stdio });
  live.add(child);

  const exited = new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(`exit ${code ?? signal}`));
  }).finally(() => live.delete(child));
  onEnd(() => end(name, child, exited));

  const tail = [];
  const lines = createInterface({ input: child.stdout ?? child.stderr });
  lines.on('line', (text) => {
    tail.push(text);
    if (tail.length > TAIL) tail.shift();
  });

  function announced(what, pick) {
    const found = new Promise((resolve, reject) => {
      const look = (text) => {
        const value = pick(text);
        if (value !== undefined) resolve(value);
      };
      tail.forEach(look);
      lines.on('line', look);
      exited.then((how) => reject(new Error(`${name} ended early: ${how}`)));
    });
    return within(10_000, `${name}: ${what}`, found);
  }

  // For waits on something else than a line: they end with the child.
  function assertRunning() {
    if (!live.has(child)) throw new Error(`${name} ended early`);
  }

  return { announced, assertRunning, tail };
}

async function end(name, child, exited) {
  if (!live.has(child)) return;
  child.kill('SIGTERM');
  try {
    await within(10_000, `${name}: exit after SIGTERM`, exited);
  } catch (error) {
    child.kill('SIGKILL');
    await within(5_000, `${name}: exit after SIGKILL`, exited);
    throw error;
  }
}
