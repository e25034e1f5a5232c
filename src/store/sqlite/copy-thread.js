// The thread of log-copy.ts. Plain JavaScript: what takes the types out of TypeScript needs more memory than all that is done here.
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';

const db = new DatabaseSync(new URL(workerData));
db.exec('PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -64');
const copy = db.prepare('PRAGMA wal_checkpoint(PASSIVE)');
const beat = db.prepare('UPDATE pulse SET beat = beat + 1');

const orders = {
  copy: () => copy.get(),
  // The first that is written after all was copied begins the log anew, and SQLite waits for the disk to have its head.
  renew: () => {
    const { log, checkpointed } = copy.get();
    if (log !== checkpointed) throw new Error('not all of it could be copied');
    beat.run();
  },
};

parentPort.on('message', (order) => {
  if (order === 'close') {
    db.close();
    parentPort.close();
    return;
  }
  try {
    orders[order]();
    parentPort.postMessage(null);
  } catch (error) {
    parentPort.postMessage(error);
  }
});
