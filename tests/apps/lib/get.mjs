// One GET, its whole answer, and a bound.
import { request } from 'node:http';

export function get(url, { agent, headers, timeout }) {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeout);
    const outgoing = request(url, { agent, headers, signal }, (answer) => {
      let body = '';
      answer.setEncoding('utf8');
      answer.on('data', (text) => (body += text));
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body }));
      answer.on('error', reject);
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}
