// One line for each check, and the sum of them.
const count = { passed: 0, failed: 0 };

export function check(name, good, detail) {
  count[good ? 'passed' : 'failed'] += 1;
  console.log(`${good ? 'ok' : 'not ok'} - ${name}${detail ? ` (${detail})` : ''}`);
}

export function note(text) {
  console.log(`# ${text}`);
}

export function failures() {
  return count.failed;
}

export function summary() {
  console.log(`${count.passed} passed, ${count.failed} failed`);
}

export function spread(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

export function show(counts) {
  return [...counts].sort().map(([value, n]) => `${value}: ${n}`).join(', ');
}
