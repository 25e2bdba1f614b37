// A Socket.IO server without an adapter: a polling request or an upgrade which
// reaches another backend is refused with "Session ID unknown".
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const backend = process.argv[2];

const server = createServer((req, res) => {
  res.writeHead(req.url === '/healthz' ? 200 : 404).end();
});

new Server(server).on('connection', (socket) => {
  let n = 0;
  socket.on('echo', (reply) => {
    n += 1;
    reply({ backend, id: socket.id, n });
  });
});

server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
