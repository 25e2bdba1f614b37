// Three processes of one application, each on a port of its own choice.
import { fileURLToPath } from 'node:url';
import { start } from './child.mjs';

const IDS = ['web.1', 'web.2', 'web.3'];

export function startBackends(application) {
  const file = fileURLToPath(new URL(`../${application}`, import.meta.url));
  return Promise.all(IDS.map((id) => startBackend(file, id)));
}

async function startBackend(file, id) {
  const child = start(id, process.execPath, [file, id], ['ignore', 'pipe', 'inherit']);
  const port = await child.announced('its port', (text) => /^\{"port":(\d+)\}$/.exec(text)?.[1]);
  return { id, address: `127.0.0.1:${port}` };
}
