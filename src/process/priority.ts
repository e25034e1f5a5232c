// A restart has a time by which it must have been made, whatever else the machine has to do; and the SFU beside us may have a lot to do.
import { constants, getPriority, setPriority } from 'node:os';

/** Goes before ordinary work, where that is allowed (root, CAP_SYS_NICE) and nobody has chosen another priority already. */
export function goFirst(): void {
  try {
    if (getPriority() === constants.priority.PRIORITY_NORMAL) setPriority(constants.priority.PRIORITY_ABOVE_NORMAL);
  } catch {
    // Not allowed: an operator may do it from outside.
  }
}
