import { flushSync } from 'react-dom';

/** Whether this browser knows no motion, or its user wants none. */
export function isStill(): boolean {
  return window.matchMedia?.('(prefers-reduced-motion: reduce)').matches ?? true;
}

/** Change the page in a View Transition where the browser has them and motion is welcome. */
export function withTransition(change: () => void): void {
  if (isStill() || !document.startViewTransition || document.visibilityState === 'hidden') {
    change();
    return;
  }
  const transition = document.startViewTransition(() => flushSync(change));
  // a newer transition cuts this one short; that is fine, the change itself is made
  for (const promise of [transition.ready, transition.finished]) promise.catch(() => {});
}
