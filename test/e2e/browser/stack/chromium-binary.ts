// Where Chromium is; apart from what drives it, since the installation script asks as well.
import { existsSync } from 'node:fs';

export const chromiumBinary = process.env.LASTWILL_CHROMIUM ?? '/usr/bin/chromium';
export const noChromium = existsSync(chromiumBinary)
  ? undefined
  : `no ${chromiumBinary}: npm run test:e2e installs Debian's chromium as root; LASTWILL_CHROMIUM may name another`;
