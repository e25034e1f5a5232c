// The registration file of lastwill as its operator gets it.
import { spawnSync } from 'node:child_process';
import { repositoryDir } from './processes.ts';

export function printedRegistration(serverName: string, lastwillUrl: string): string {
  const printed = spawnSync('npm', ['run', '--silent', 'registration', '--', serverName, lastwillUrl], {
    cwd: repositoryDir,
    encoding: 'utf8',
  });
  if (printed.status !== 0) throw new Error(`npm run registration: ${printed.stdout}${printed.stderr}`);
  return printed.stdout;
}
