// Visitors over HTTP/2: many share a connection, and go on over another one when the server leaves (RFC 9113 §6.8).
import { connect, constants } from 'node:http2';
import { Jar } from './jar.mjs';
import { within } from './wait.mjs';

const PATIENCE = 20_000;

export class Visitors {
  // Of each kind of trouble, how often.
  failed = [];
  connections = 0;
  // Requests that the server did not look at, and said so, or that could not be sent any more.
  unseen = 0;

  constructor({ url, authority, ca, connections, streams }) {
    this.options = { url, authority, ca };
    this.isOver = false;
    this.lines = Array.from({ length: connections }, () => Array.from({ length: streams }, newVisitor));
  }

  // Until `finish` is called, and each has made as many visits.
  async visit(least) {
    await Promise.all(this.lines.map((visitors) => this.#line(visitors, least)));
    return this.lines.flat();
  }

  finish() {
    this.isOver = true;
  }

  async #line(visitors, least) {
    const goesOn = (visitor) => this.failed.length < 100 && !(this.isOver && visitor.visits >= least);
    while (visitors.some(goesOn)) {
      let session;
      try {
        session = await this.#open();
      } catch (error) {
        this.failed.push(`connect: ${error.message}`);
        continue;
      }
      await Promise.all(visitors.map(async (visitor) => {
        while (goesOn(visitor) && !session.closed && !session.destroyed) await this.#visitOnce(session, visitor);
      }));
      session.close();
    }
  }

  async #open() {
    const { url, authority, ca } = this.options;
    const session = connect(url, { ca, servername: authority.split(':')[0] });
    this.connections += 1;
    await within(PATIENCE, 'a connection', new Promise((resolve, reject) => {
      session.once('connect', resolve);
      session.once('error', reject);
    }));
    // What was asked on it says so as well.
    session.on('error', (error) => this.failed.push(`connection: ${error.message}`));
    return session;
  }

  async #visitOnce(session, visitor) {
    try {
      const answer = await within(PATIENCE, 'a visit', this.#ask(session, visitor));
      visitor.visits += 1;
      visitor.home ??= answer.backend;
      if (answer.backend !== visitor.home || answer.visits !== visitor.visits) {
        const [here, there] = [answer, visitor].map(({ visits }) => visits);
        this.failed.push(`away from home: ${answer.backend}, not ${visitor.home}; visit ${here}, not ${there}`);
        visitor.visits = answer.visits;
      }
    } catch (error) {
      if (error.isUnseen) this.unseen += 1;
      else this.failed.push(error.message);
    }
  }

  #ask(session, { jar }) {
    return new Promise((resolve, reject) => {
      const request = session.request({ ':path': '/visit', ':authority': this.options.authority, ...jar.headers });
      const answer = { body: '' };
      request.setEncoding('utf8');
      request.on('response', (headers) => {
        answer.status = headers[':status'];
        jar.take(headers['set-cookie']);
      });
      request.on('data', (text) => (answer.body += text));
      request.on('error', () => {});
      request.on('close', () => {
        const { rstCode } = request;
        const error = new Error(`stream: ${rstCode}, status ${answer.status}`);
        error.isUnseen = rstCode === constants.NGHTTP2_REFUSED_STREAM || request.id === undefined;
        if (rstCode === 0 && answer.status === 200) resolve(JSON.parse(answer.body));
        else reject(error);
      });
    });
  }
}

function newVisitor() {
  return { jar: new Jar(), visits: 0, home: undefined };
}
