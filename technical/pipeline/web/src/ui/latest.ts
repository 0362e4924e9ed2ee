/** For work that is asked for faster than it is done, as by a slider that is dragged. */

/**
 * A call starts `task`; calls made while it runs are answered by one more run after it, however many they are. `task`
 * is given a function that tells whether nothing newer was asked for.
 */
export function latestOnly(task: (current: () => boolean) => Promise<void>): () => void {
  let [asked, running] = [false, false];
  const run = async (): Promise<void> => {
    running = true;
    try {
      while (asked) {
        asked = false;
        await task(() => !asked);
      }
    } finally {
      running = false;
    }
  };
  return () => {
    asked = true;
    if (!running) void run();
  };
}
