// Visitors of the Express application, each with a cookie jar of its own.
import { Agent } from 'node:http';
import { get } from './get.mjs';
import { Jar } from './jar.mjs';

const CONCURRENCY = 32;

export async function visit(url, { visitors, visits, bound }) {
  const end = Date.now() + bound;
  // One agent for all: a connection carries the requests of many visitors, so
  // a balancer which is sticky by connection only does not pass.
  const agent = new Agent({ keepAlive: true, maxSockets: CONCURRENCY });
  const all = Array.from({ length: visitors }, () => ({ jar: new Jar(), answers: [] }));

  // A visitor waits for the answer before it stands in the queue again.
  const queue = [...all];
  async function work() {
    for (let visitor; (visitor = queue.shift()); ) {
      visitor.error = Date.now() > end ? 'out of time' : await visitOnce(url, agent, visitor);
      if (!visitor.error && visitor.answers.length < visits) queue.push(visitor);
    }
  }

  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  agent.destroy();
  return all;
}

async function visitOnce(url, agent, { jar, answers }) {
  try {
    const answer = await get(`${url}/visit`, { agent, headers: jar.headers, timeout: 10_000 });
    if (answer.status !== 200) return `status ${answer.status}`;
    jar.take(answer.headers['set-cookie']);
    answers.push(JSON.parse(answer.body));
  } catch (error) {
    return error.message;
  }
}
