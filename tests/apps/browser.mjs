// What a person sees: Chromium, with a page over TLS and HTTP/2.
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import puppeteer from 'puppeteer-core';
import { startBackends } from './lib/backends.mjs';
import { Authority, CA_NAME } from './lib/certificates.mjs';
import { onEnd } from './lib/cleanup.mjs';
import { AFFINITY_COOKIE, STICKY, overTls } from './lib/config.mjs';
import { freshDirectory, startHoming } from './lib/homing.mjs';
import { check, show, spread } from './lib/report.mjs';
import { shown } from './lib/shown.mjs';
import { until, within } from './lib/wait.mjs';

const NAME = 'shop.test';
const DAY = 24 * 3600;
const [DAYS, DAYS_AFTERWARDS] = [10, 20];
const SCREENSHOTS = fileURLToPath(new URL('../../target/browser', import.meta.url));

// Functions given to `evaluate` run in the page, where nothing of this file is known.

export async function browser(binary) {
  const directory = freshDirectory();
  const authority = new Authority(directory);
  const files = authority.issue(NAME, DAYS);
  const backends = await startBackends('page.mjs');
  const app = { name: 'shop', domain: NAME, affinity: STICKY, backends };
  const homing = await startHoming(binary, [app], [overTls(files)]);
  try {
    await use(homing, await open(directory, authority), authority);
  } catch (error) {
    throw Object.assign(error, { tail: homing.tail });
  }
}

async function use(homing, page, authority) {
  const site = { homing, page, url: `https://${NAME}:${homing.addresses[0].split(':')[1]}` };
  site.requests = await watch(page);

  await seePage(site);
  await seeCookie(site);
  await stay(site);
  await talk(site);
  await restart(site);
  await swap(site, authority);
}

// A browser of its own that trusts our CA, as a person's would trust another.
async function open(directory, authority) {
  const store = join(directory, '.pki/nssdb');
  mkdirSync(store, { recursive: true });
  const certutil = (...args) => execFileSync('certutil', ['-d', `sql:${store}`, ...args], { timeout: 20_000 });
  certutil('-N', '--empty-password');
  certutil('-A', '-t', 'C,,', '-n', CA_NAME, '-i', authority.file);
  const browser = await puppeteer.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', `--host-resolver-rules=MAP ${NAME} 127.0.0.1`],
    env: { ...process.env, HOME: directory },
    timeout: 30_000,
  });
  onEnd(() => browser.close());
  return browser.newPage();
}

// What the browser itself knows of its requests.
async function watch(page) {
  const seen = { connections: [], failed: [], security: undefined };
  const session = await page.createCDPSession();
  session.on('Network.responseReceived', ({ response }) => seen.connections.push(response.connectionId));
  session.on('Network.loadingFailed', ({ errorText }) => seen.failed.push(errorText));
  session.on('Security.visibleSecurityStateChanged', ({ visibleSecurityState }) => {
    seen.security = visibleSecurityState;
  });
  await session.send('Network.enable');
  await session.send('Security.enable');
  return seen;
}

async function seePage({ page, url, requests, homing }) {
  const response = await page.goto(url, { timeout: 20_000 });
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, 'page.png') });
  const heading = await page.$eval('h1', (element) => element.innerText);
  const box = await (await page.$('h1')).boundingBox();
  check('browser: the page is there', response.status() === 200 && /^At home on web\.\d$/.test(heading), heading);
  check('browser: it can be seen', box.width > 100 && box.height > 20, `${box.width} x ${box.height}`);

  const details = response.securityDetails();
  const days = (details.validTo() - details.validFrom()) / DAY;
  check('browser: TLS 1.3', details.protocol() === 'TLS 1.3', details.protocol());
  check('browser: the certificate is for the name', details.subjectName() === NAME, details.subjectName());
  check('browser: and lists it', details.subjectAlternativeNames().includes(NAME));
  check('browser: it is by our CA', details.issuer() === CA_NAME, details.issuer());
  check('browser: it is valid for as long as it was issued', Math.abs(days - DAYS) < 0.01, `${days} days`);
  await until(5_000, 'the padlock', () => requests.security);
  const { securityState, certificateSecurityState: certificate } = requests.security;
  check('browser: the padlock is closed', securityState === 'secure', securityState);
  const { modernSSL, certificateHasWeakSignature, certificateNetworkError } = certificate;
  const good = modernSSL && !certificateHasWeakSignature && !certificateNetworkError;
  const { protocol: version, keyExchangeGroup, cipher } = certificate;
  check('browser: nothing is obsolete', good, `${version}, ${keyExchangeGroup}, ${cipher}`);
  const protocol = await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
  check('browser: the page comes over HTTP/2', protocol === 'h2', protocol);
  const { scheme } = await visit(page);
  check('browser: the app is told of https', scheme === 'https', scheme);
}

async function seeCookie({ page }) {
  const cookie = (await page.browserContext().cookies()).find(({ name }) => name === AFFINITY_COOKIE);
  const hours = (cookie.expires - Date.now() / 1000) / 3600;
  check('browser: the affinity cookie is Secure', cookie.secure);
  check('browser: the affinity cookie is HttpOnly', cookie.httpOnly);
  check('browser: the affinity cookie is SameSite=Lax', cookie.sameSite === 'Lax', cookie.sameSite);
  check('browser: the affinity cookie is for this host and all paths', cookie.domain === NAME && cookie.path === '/');
  check('browser: the affinity cookie lives for a day', hours > 23.9 && hours <= 24, `${hours.toFixed(2)} h`);
  const seen = await page.evaluate(() => document.cookie);
  check('browser: scripts do not see it', !seen.includes(AFFINITY_COOKIE), seen);
}

async function stay(site) {
  const { page, requests } = site;
  site.last = await visit(page);
  requests.connections.length = 0;
  let grows = true;
  for (let n = 0; n < 30; n += 1) grows = (await keeps(site)) && grows;
  check('browser: 30 requests, each at home', grows, `${site.last.backend}, ${site.last.visits} visits`);

  const burst = await page.evaluate(() => Promise.all(
    Array.from({ length: 60 }, async () => (await fetch('/visit')).json()),
  ));
  const visits = burst.map((answer) => answer.visits).sort((a, b) => a - b);
  const home = burst.every(({ backend, session }) => backend === site.last.backend && session === site.last.session);
  check('browser: 60 requests at once, all at home', home, show(spread(burst.map(({ backend }) => backend))));
  check('browser: each of them counts', visits.every((n, i) => n === site.last.visits + 1 + i));
  site.last = { ...site.last, visits: visits.at(-1) };
  const connections = spread(requests.connections);
  const all = requests.connections.length >= 90;
  check('browser: all on one connection', all && connections.size === 1, show(connections));
}

async function talk(site) {
  const { page, homing, last } = site;
  const answers = await within(10_000, 'a WebSocket', page.evaluate(async () => {
    globalThis.socket = new WebSocket(`wss://${location.host}/talk`);
    globalThis.echo = (text) => new Promise((resolve, reject) => {
      socket.onmessage = ({ data }) => resolve(JSON.parse(data));
      socket.onclose = ({ code }) => reject(new Error(`closed: ${code}`));
      socket.send(text);
    });
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onclose = ({ code }) => reject(new Error(`closed: ${code}`));
    });
    const answers = [];
    for (let n = 0; n < 5; n += 1) answers.push(await echo(`${n}`));
    return answers;
  }));
  const home = answers.every(({ backend, known, text }, n) => backend === last.backend && known && text === `${n}`);
  check('browser: a WebSocket over TLS is at home', home && answers.length === 5, JSON.stringify(answers[0]));

  // Another one, for its line in the log.
  await page.evaluate(() => new Promise((resolve) => {
    const other = new WebSocket(`wss://${location.host}/talk`);
    other.onopen = () => other.close();
    other.onclose = resolve;
  }));
  const lines = async () => (await homing.log()).filter(({ path }) => path === '/talk');
  await until(5_000, 'the line of a WebSocket', async () => (await lines()).length > 0);
  const [line] = await lines();
  const what = `${line.method}, ${line.status}, ${line.protocol}`;
  check('browser: Chromium takes it over HTTP/2 (RFC 8441)', line.protocol === 'http2.0' && line.tls, what);
}

async function restart(site) {
  const { page, homing, requests } = site;
  await homing.restart();
  let grows = true;
  for (let n = 0; n < 10; n += 1) grows = (await keeps(site)) && grows;
  check('browser: at home after a restart', grows, `${site.last.backend}, ${site.last.visits} visits`);
  const answer = await within(10_000, 'the WebSocket', page.evaluate(() => echo('still')));
  check('browser: its WebSocket stayed', answer.text === 'still' && answer.backend === site.last.backend);
  check('browser: no request failed', requests.failed.length === 0, show(spread(requests.failed)));
}

async function swap(site, authority) {
  const { page, homing, requests } = site;
  const look = () => shown(homing.addresses[0], NAME, authority);
  const before = await look();
  authority.issue(NAME, DAYS_AFTERWARDS);
  await until(20_000, 'the new certificate', async () => (await look()) !== before);
  check('browser: who is connected notices nothing of a new certificate', await keeps(site));
  await homing.restart();
  check('browser: nor of another restart', await keeps(site), `${site.last.backend}, ${site.last.visits} visits`);

  // A connection that goes on with an earlier one (RFC 8446 §2.2) is shown no certificate: another browser is.
  const context = await page.browser().createBrowserContext();
  await context.setCookie(...(await page.browserContext().cookies()));
  const other = { ...site, page: await context.newPage() };
  const details = (await other.page.goto(site.url)).securityDetails();
  other.last = { ...site.last, visits: site.last.visits + 1 };
  const days = (details.validTo() - details.validFrom()) / DAY;
  check('browser: another one is shown the new certificate', Math.abs(days - DAYS_AFTERWARDS) < 0.01, `${days} days`);
  check('browser: and is at home with the same cookie', await keeps(other), other.last.backend);
  await other.page.screenshot({ path: join(SCREENSHOTS, 'afterwards.png') });
  check('browser: nothing failed', requests.failed.length === 0, show(spread(requests.failed)));
}

function visit(page) {
  return within(10_000, 'a visit', page.evaluate(async () => (await fetch('/visit')).json()));
}

// One more visit; whether it is at home.
async function keeps(site) {
  const { backend, session, visits } = site.last;
  site.last = await visit(site.page);
  return site.last.backend === backend && site.last.session === session && site.last.visits === visits + 1;
}
