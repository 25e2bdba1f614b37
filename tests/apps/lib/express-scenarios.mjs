// Express with sessions in the memory of each backend.
import { AFFINITY_COOKIE } from './config.mjs';
import { check, note, show, spread } from './report.mjs';
import { visit } from './visitors.mjs';

export const expressScenarios = [
  { name: 'express', application: 'express.mjs', affinity: true, drive: sticky },
  { name: 'express, affinity off', application: 'express.mjs', affinity: false, drive: loose },
];

async function sticky(name, url, backends) {
  const visitors = await visit(url, { visitors: 200, visits: 10, bound: 60_000 });
  const answers = visitors.flatMap((visitor) => visitor.answers);
  const sessions = new Set(answers.map((answer) => answer.session));
  const used = spread(visitors.map((visitor) => visitor.answers[0]?.backend));
  const every = (holds) => visitors.every((visitor) => holds(visitor));

  noteErrors(name, visitors);
  check(`${name}: 2000 requests of 200 visitors are answered`, answers.length === 2000, `${answers.length}`);
  check(`${name}: each visit counts one more than the last`, resets(visitors) === 0, `${resets(visitors)} do not`);
  check(`${name}: no visitor changes its session`, every((visitor) => keeps(visitor, 'session')));
  check(`${name}: no visitor changes its backend`, every((visitor) => keeps(visitor, 'backend')));
  check(`${name}: no two visitors share a session`, sessions.size === 200, `${sessions.size} sessions`);
  check(
    `${name}: each visitor holds the cookies of the application and of Homing`,
    every(({ jar }) => jar.has('connect.sid') && jar.has(AFFINITY_COOKIE)),
  );
  check(`${name}: every backend is used`, backends.every(({ id }) => used.has(id)), show(used));
}

async function loose(name, url) {
  const visitors = await visit(url, { visitors: 40, visits: 5, bound: 30_000 });
  const answers = visitors.flatMap((visitor) => visitor.answers);

  noteErrors(name, visitors);
  check(`${name}: 200 requests of 40 visitors are answered`, answers.length === 200, `${answers.length}`);
  check(`${name}: sessions are lost`, resets(visitors) > 0, `at ${resets(visitors)} of ${answers.length} requests`);
  check(`${name}: no affinity cookie is set`, !visitors.some(({ jar }) => jar.has(AFFINITY_COOKIE)));
}

function keeps({ answers }, key) {
  return new Set(answers.map((answer) => answer[key])).size === 1;
}

function resets(visitors) {
  const wrong = ({ answers }) => answers.filter(({ visits }, i) => visits !== (answers[i - 1]?.visits ?? 0) + 1);
  return visitors.flatMap(wrong).length;
}

function noteErrors(name, visitors) {
  const errors = spread(visitors.flatMap((visitor) => visitor.error ?? []));
  if (errors.size > 0) note(`${name}: ${show(errors)}`);
}
