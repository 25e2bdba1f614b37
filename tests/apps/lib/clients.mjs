// Socket.IO clients, each of which polls first and then upgrades.
import { io } from 'socket.io-client';
import { within } from './wait.mjs';

const ECHOES = 5;
const ECHOES_BEFORE_UPGRADE = 2;

// All clients stay connected until the last of them is done.
export async function talk(url, { clients, bound }) {
  const open = Array.from({ length: clients }, () => connect(url));
  const results = await Promise.all(open.map((client) => converse(client, bound)));
  for (const { socket, result } of open) {
    result.stayed = socket.connected;
    socket.disconnect();
  }
  return results;
}

function connect(url) {
  const socket = io(url, {
    forceNew: true,
    reconnection: false,
    // In Node this gives the client a cookie jar; it has none otherwise.
    withCredentials: true,
  });
  const result = { echoes: [], upgraded: false };
  const upgraded = new Promise((resolve, reject) => {
    socket.on('connect_error', (error) => {
      result.refused = reason(error);
      reject(new Error(`refused: ${result.refused}`));
    });
    socket.on('disconnect', (why) => reject(new Error(`disconnected: ${why}`)));
    socket.io.on('open', () => {
      const { engine } = socket.io;
      engine.on('upgradeError', (error) => reject(new Error(`no upgrade: ${error.message}`)));
      engine.on('upgrade', (transport) => resolve((result.upgraded = transport.name === 'websocket')));
    });
  });
  const connected = new Promise((resolve) => socket.on('connect', () => resolve(socket.id)));
  return { socket, result, connected, upgraded };
}

async function converse({ socket, result, connected, upgraded }, bound) {
  const conversation = async () => {
    result.id = await connected;
    await echo(socket, result, ECHOES_BEFORE_UPGRADE);
    await upgraded;
    await echo(socket, result, ECHOES);
  };
  try {
    await within(bound, 'a conversation', Promise.all([conversation(), upgraded]));
  } catch (error) {
    result.error = error.message;
  }
  return result;
}

async function echo(socket, { echoes }, upTo) {
  while (echoes.length < upTo) echoes.push(await socket.timeout(10_000).emitWithAck('echo'));
}

// The words of the server are in the answer to the polling request.
function reason(error) {
  const answer = error.context?.responseText;
  return answer ? `${error.message}: ${answer}` : error.message;
}
