// What the model homeservers are held to, held against Synapse: the models can be believed where both pass.
import { inject } from 'vitest';
import { delayTarget, homeserverContract } from '../homeserver/contract.ts';
import { MatrixClient, MatrixError } from './stack/matrix.ts';

const TYPE = 'org.matrix.msc3401.call.member';

homeserverContract(
  'Synapse',
  async () => {
    const url = inject('shared').synapseUrl;
    const alice = await MatrixClient.register(url, 'alice');
    const room = await alice.createRoom();
    return {
      url,
      schedule: async (delayMs, key) => delayTarget(await alice.scheduleState(room, TYPE, key, { left: true }, delayMs)),
      arrived: (key) =>
        alice.state(room, TYPE, key).then(
          () => true,
          (error: unknown) => {
            if (error instanceof MatrixError && error.status === 404) return false;
            throw error;
          },
        ),
      stop: async () => {},
    };
  },
  { unitMs: 500 },
);
