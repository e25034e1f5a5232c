// The simulation's store keeps the same contract as the real ones: what passes on it means something.
import { storeContract } from '../store/contract.ts';
import { Disk, ModelStore } from './model-store.ts';

storeContract('the model store', async (clock) => {
  const disk = new Disk();
  const open = async (): Promise<ModelStore> => new ModelStore({ disk, clock });
  return { store: await open(), reopen: open, kill: open };
});
