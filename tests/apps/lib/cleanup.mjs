// What the test has started or created and must not leave behind.
const pending = new Set();
let interrupted = 0;

export function onEnd(undo) {
  let undone;
  const once = () => (undone ??= Promise.resolve(undo()).finally(() => pending.delete(once)));
  pending.add(once);
}

// The last thing which was started is stopped first.
export async function cleanUp() {
  for (const undo of [...pending].reverse()) {
    try {
      await undo();
    } catch (error) {
      console.error(`# clean-up: ${error.message}`);
    }
  }
}

export function cleanUpOnSignals() {
  for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143]]) {
    // A second signal changes nothing: the clean-up is bounded.
    process.on(signal, async () => {
      interrupted ||= code;
      await cleanUp();
      process.exit(interrupted);
    });
  }
}

// The exit code of a run which a signal has ended, otherwise 0.
export function interruption() {
  return interrupted;
}

// A signal may arrive while a scenario is still starting things.
export function assertNotInterrupted() {
  if (interrupted) throw new Error('interrupted');
}
