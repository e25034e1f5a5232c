// How soon a leave must be in the room.

/** lastwill's wait for a return, and what a machine with a few browsers on it may add. */
export const SOON_MS = 1_000 + 1_500;
/** LiveKit notices a crash after 19.5 to 21.6 s. */
export const CRASH_MS = 21_600 + SOON_MS;
