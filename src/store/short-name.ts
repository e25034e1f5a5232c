// What clients call things, as names in a store: hashes of one length, and too many bits for two to meet by chance.
import { createHash } from 'node:crypto';

export function shortName(text: string, length: number): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, length);
}
