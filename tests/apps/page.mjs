// An Express application with a page, and WebSockets, whose visits are counted in the memory of this process only.
import { createHash, randomUUID } from 'node:crypto';
import express from 'express';
import { WebSocketServer } from 'ws';

const backend = process.argv[2];
const visits = new Map();
const app = express();

function visit(req, res) {
  let session = sessionOf(req);
  if (!visits.has(session)) {
    session = randomUUID();
    visits.set(session, 0);
    res.cookie('session', session, { httpOnly: true });
  }
  visits.set(session, visits.get(session) + 1);
  return { backend, session, visits: visits.get(session), scheme: req.get('x-forwarded-proto') };
}

function sessionOf(req) {
  return /(?:^|; )session=([^;]+)/.exec(req.headers.cookie ?? '')?.[1];
}

app.get('/healthz', (req, res) => res.sendStatus(200));
app.get('/visit', (req, res) => res.json(visit(req, res)));
app.put('/upload', (req, res) => {
  const hash = createHash('sha256');
  req.on('data', (data) => hash.update(data));
  req.on('end', () => res.json({ backend, hash: hash.digest('hex') }));
});
app.get('/', (req, res) => {
  const { visits } = visit(req, res);
  res.send(`<!doctype html><html lang="en"><title>Shop</title><link rel="icon" href="data:,">
<style>body { font: 2em sans-serif; margin: 2em; background: #def }</style>
<h1>At home on ${backend}</h1><p>Visit <b>${visits}</b></p></html>`);
});

const server = app.listen(0, '127.0.0.1', (error) => {
  if (error) throw error;
  console.log(JSON.stringify({ port: server.address().port }));
});

const sockets = new WebSocketServer({ server, path: '/talk' });
sockets.on('connection', (socket, req) => {
  const session = sessionOf(req);
  socket.on('message', (text) => {
    socket.send(JSON.stringify({ backend, known: visits.has(session), text: text.toString() }));
  });
});
