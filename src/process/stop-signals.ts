// SIGTERM, SIGINT and SIGHUP, from the first moment of the start on. Without a handler they end a process wherever it is just then, and
// process 1, which is what we are in a container, does not even get them: the start would go on, and the orchestrator had to wait and then
// kill it. SIGHUP says that the terminal is closed, or to read the settings anew: whoever supervises us starts us again, and that does it.

type Stop = (signal: string) => void;

let asked: string | null = null;
let stop: Stop = () => {};

/** From here on a stop signal does what `onStopSignal` was told last; nothing until then. */
export function hearStopSignals(): void {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
      asked ??= signal;
      stop(asked);
    });
  }
  // Node's own answer to it is to open its debugger, by which whoever reaches the port (all users of the machine, all containers of a pod) may
  // run what they like in here. Operators send it in the belief that it opens a log anew.
  process.on('SIGUSR1', () => {});
}

/** Sets what ends the process from now on, in place of what was set before; called at once if a signal has come already. */
export function onStopSignal(how: Stop): void {
  stop = how;
  if (asked !== null) stop(asked);
}
