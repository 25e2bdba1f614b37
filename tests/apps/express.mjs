// An Express application whose sessions live in this process only, so a
// request which reaches another backend starts a new session.
import express from 'express';
import session from 'express-session';

const backend = process.argv[2];
const app = express();

app.get('/healthz', (req, res) => res.sendStatus(200));

app.use(session({ secret: 'homing-apps-test', resave: false, saveUninitialized: false }));

app.get('/visit', (req, res) => {
  req.session.visits = (req.session.visits ?? 0) + 1;
  res.json({ backend, visits: req.session.visits, session: req.sessionID });
});

const server = app.listen(0, '127.0.0.1', (error) => {
  if (error) throw error;
  console.log(JSON.stringify({ port: server.address().port }));
});
