// curl, in each of the ways it can come.
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startBackends } from './lib/backends.mjs';
import { Authority } from './lib/certificates.mjs';
import { AFFINITY_COOKIE, STICKY, overTls } from './lib/config.mjs';
import { freshDirectory, startHoming } from './lib/homing.mjs';
import { check, show, spread } from './lib/report.mjs';

const NAME = 'shop.test';
const VISITS = 10;
const UPLOAD = 5 * 1024 * 1024;
const run = promisify(execFile);

export async function curl(binary) {
  const directory = freshDirectory();
  const authority = new Authority(directory);
  const backends = await startBackends('page.mjs');
  const app = { name: 'shop', domain: NAME, affinity: STICKY, backends };
  const terms = ['', ', protocols: [h2c]', overTls(authority.issue(NAME, 10))];
  const homing = await startHoming(binary, [app], terms);
  try {
    await use(new Curl(directory, authority), homing);
  } catch (error) {
    throw Object.assign(error, { tail: homing.tail });
  }
}

async function use(curl, homing) {
  const [plain, clear, secure] = homing.addresses.map((address) => address.split(':')[1]);
  const ways = [
    { way: 'HTTP/1.1', url: `http://${NAME}:${plain}`, options: ['--http1.1'], version: '1.1' },
    { way: 'HTTP/2 in the clear', url: `http://${NAME}:${clear}`, options: ['--http2-prior-knowledge'], version: '2' },
    { way: 'HTTP/1.1 over TLS', url: `https://${NAME}:${secure}`, options: ['--http1.1'], version: '1.1' },
    { way: 'HTTP/2 over TLS', url: `https://${NAME}:${secure}`, options: ['--http2'], version: '2' },
    { way: 'what both like best over TLS', url: `https://${NAME}:${secure}`, options: [], version: '2' },
  ];
  for (const one of ways) {
    await visit(curl, one);
    await upload(curl, one);
  }
  await change(curl, ways[2], ways[3]);
  await hurry(curl, ways[3]);
}

// `-q` comes first: nobody's .curlrc counts.
class Curl {
  constructor(directory, authority) {
    this.directory = directory;
    this.always = ['-q', '--silent', '--show-error', '--max-time', '20', '--cacert', authority.file];
    this.count = 0;
  }

  path(name) {
    return join(this.directory, name);
  }

  async ask({ url, options }, path, ...more) {
    const [name, port] = new URL(url).host.split(':');
    const resolve = ['--resolve', `${name}:${port}:127.0.0.1`];
    const args = [...this.always, ...resolve, ...options, ...more, `${url}${path}`];
    const { stdout, stderr } = await run('curl', args, { timeout: 30_000, maxBuffer: 1 << 24 });
    return { stdout, stderr };
  }

  // With the cookies of a jar, which may be new; what was said, and how.
  async visit(way, jar) {
    const heads = this.path('heads');
    const { stdout } = await this.ask(way, '/visit', '-b', jar, '-c', jar, '-D', heads, '-w', '\n%{http_version}');
    const [body, version] = stdout.split('\n');
    return { ...JSON.parse(body), version, heads: readFileSync(heads, 'utf8') };
  }

  newJar() {
    const jar = this.path(`jar-${(this.count += 1)}`);
    writeFileSync(jar, '');
    return jar;
  }
}

async function visit(curl, way) {
  const answers = [];
  const jar = curl.newJar();
  for (let n = 0; n < VISITS; n += 1) answers.push(await curl.visit(way, jar));
  const home = answers.every(({ session, visits }, n) => session === answers[0].session && visits === n + 1);
  check(`curl: ${way.way}: at home`, home, show(spread(answers.map(({ backend }) => backend))));
  const versions = spread(answers.map(({ version }) => version));
  check(`curl: ${way.way}: it is that`, versions.get(way.version) === VISITS, show(versions));
  const cookies = answers[0].heads.match(/^set-cookie: .*$/gim) ?? [];
  const ours = cookies.find((line) => line.toLowerCase().startsWith(`set-cookie: ${AFFINITY_COOKIE}=`)) ?? '';
  const secure = way.url.startsWith('https:');
  const right = ours !== '' && /; secure/i.test(ours) === secure;
  check(`curl: ${way.way}: the cookie is ${secure ? '' : 'not '}Secure`, right, ours.replace(/=[^;]+/, '=…').trim());
  const { scheme } = answers[0];
  check(`curl: ${way.way}: the app is told so`, scheme === (secure ? 'https' : 'http'), scheme);
}

async function upload(curl, way) {
  const content = randomBytes(UPLOAD);
  const hash = createHash('sha256').update(content).digest('hex');
  const file = curl.path('upload');
  writeFileSync(file, content);
  const answer = await curl.ask(way, '/upload', '-T', file, '-H', 'Expect:');
  check(`curl: ${way.way}: an upload of 5 MiB`, JSON.parse(answer.stdout).hash === hash);
  const expecting = ['-H', 'Expect: 100-continue', '--expect100-timeout', '15', '-v'];
  const asked = await curl.ask(way, '/upload', '-T', file, ...expecting);
  const continued = /^< HTTP\/\S+ 100/m.test(asked.stderr);
  check(`curl: ${way.way}: one that asks first`, JSON.parse(asked.stdout).hash === hash && continued);
}

// One visitor that comes both ways in turn.
async function change(curl, one, other) {
  const jar = curl.newJar();
  const answers = [];
  for (let n = 0; n < VISITS; n += 1) answers.push(await curl.visit(n % 2 ? one : other, jar));
  const home = answers.every(({ session, visits }, n) => session === answers[0].session && visits === n + 1);
  check('curl: at home by HTTP/1.1 and HTTP/2 in turn', home, show(spread(answers.map(({ backend }) => backend))));
}

async function hurry(curl, way) {
  const jar = curl.newJar();
  const { backend } = await curl.visit(way, jar);
  const options = ['-b', jar, '--parallel', '-o', curl.path('answer-#1'), '-w', '%{num_connects}\n'];
  const { stdout } = await curl.ask(way, '/visit?n=[1-100]', ...options);
  const connects = stdout.trim().split('\n').reduce((sum, count) => sum + Number(count), 0);
  const read = (_, n) => JSON.parse(readFileSync(curl.path(`answer-${n + 1}`), 'utf8'));
  const answers = Array.from({ length: 100 }, read);
  const visits = answers.map((answer) => answer.visits).sort((a, b) => a - b);
  const home = answers.every((answer) => answer.backend === backend) && visits.every((n, i) => n === i + 2);
  check('curl: 100 requests at once, all at home', home, `${connects} connections`);
}
