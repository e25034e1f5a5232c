// Being told to end, from the first moment of a start on. Without a handler the signal ends the process wherever it is just then; and process
// 1, as which a container runs us, would not even hear it: the start would go on, and whoever wants it gone had to wait, and to kill it.

type Stop = (signal: string) => void;

let asked: string | null = null;
let stop: Stop = () => {};

export function hearStopSignals(): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      asked ??= signal;
      stop(asked);
    });
  }
}

/** How to end from now on. If it was asked for before, this is told at once. */
export function onStopSignal(how: Stop): void {
  stop = how;
  if (asked !== null) stop(asked);
}
