// Rows that only their ids tell apart, in parts of about the same size.
import { crc32 } from 'node:zlib';
import type { DelegationId } from '../delegation/ids.ts';
import type { Part } from './store.ts';

export function isInPart(id: DelegationId, part: Part | undefined): boolean {
  return part === undefined || crc32(id) % part.of === part.nth;
}
