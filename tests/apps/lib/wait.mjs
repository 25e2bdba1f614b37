// Every wait of the test is bounded and ends when its condition holds.
import { setTimeout as delay } from 'node:timers/promises';

export async function within(ms, what, promise) {
  let timer;
  const expired = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}

export async function until(ms, what, holds) {
  const end = Date.now() + ms;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await delay(50);
  }
}
