// Handles are capabilities; with LASTWILL_STORE_KEY they lie sealed on disk (AES-256-GCM), so that a copied file acts on nothing.
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';

export interface Seal {
  /** Short name of the key, kept with each sealed text to tell a wrong key from damage. */
  readonly keyName: string;
  close(text: string): string;
  /** @throws Error when the text was not sealed with this key, or was changed. */
  open(sealed: string): string;
}

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** How every sealed text begins; the name of its key follows. */
export const SEALED = 'v1.';

export function createSeal(secret: string): Seal {
  const key = Buffer.from(hkdfSync('sha256', secret, '', 'lastwill store key v1', 32));
  const keyName = createHash('sha256').update(key).digest('base64url').slice(0, 8);
  return {
    keyName,
    close: (text) => {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', key, nonce);
      const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
      return `${SEALED}${keyName}.${Buffer.concat([nonce, cipher.getAuthTag(), body]).toString('base64url')}`;
    },
    open: (sealed) => {
      const [, name, data] = sealed.split('.');
      if (name !== keyName || data === undefined) throw new Error(`sealed with another key (${name}, this one is ${keyName})`);
      const bytes = Buffer.from(data, 'base64url');
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
      decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
      return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]).toString('utf8');
    },
  };
}

export function isSealed(text: string): boolean {
  return text.startsWith(SEALED);
}
