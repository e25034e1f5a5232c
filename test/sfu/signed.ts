import type { Keys } from '../../src/sfu/keys.ts';
import { readWebhook, signedHashOf, type Webhook } from '../../src/sfu/webhook.ts';

/** A webhook as it comes: by its head first, and then by its body. */
export function readSigned(body: Uint8Array, authorization: string | undefined, keys: Keys): Webhook {
  const signedHash = signedHashOf(authorization, keys);
  return signedHash === null ? { kind: 'unauthorized' } : readWebhook(body, signedHash);
}
