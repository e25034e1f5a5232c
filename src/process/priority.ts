// Restarts have deadlines, whatever else the machine has to do, and the SFU beside us may take all the processor time there is.
import { constants, getPriority, setPriority } from 'node:os';

/** Raises the priority of this process above normal, where that is allowed (root, CAP_SYS_NICE) and nobody has set another one. */
export function goFirst(): void {
  try {
    if (getPriority() === constants.priority.PRIORITY_NORMAL) setPriority(constants.priority.PRIORITY_ABOVE_NORMAL);
  } catch {
    // Not allowed: an operator may do it from outside.
  }
}
