// Which certificate a new client is shown.
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';
import { within } from './wait.mjs';

// Its fingerprint, after a handshake in which it was verified.
export function shown(address, name, authority) {
  const [host, port] = address.split(':');
  const socket = connect({ host, port, servername: name, ca: readFileSync(authority.file), ALPNProtocols: ['h2'] });
  let fingerprint;
  // Who just goes away leaves in the middle of the handshake, as the server sees it.
  socket.once('secureConnect', () => {
    fingerprint = socket.getPeerCertificate().fingerprint256;
    socket.resume().end();
  });
  const closed = new Promise((resolve, reject) => {
    socket.once('close', () => resolve(fingerprint));
    socket.once('error', reject);
  });
  return within(10_000, 'a handshake', closed).finally(() => socket.destroy());
}
