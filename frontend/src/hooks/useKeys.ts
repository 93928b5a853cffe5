import { useEffect } from 'react';

/** Single keys for the whole page; none while somebody types. */
export function useKeys(keys: Readonly<Record<string, () => void>>): void {
  useEffect(() => {
    function pressed(event: KeyboardEvent) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      const at = event.target;
      if (at instanceof HTMLElement && at.closest('input, textarea, select, [contenteditable]')) {
        return;
      }
      const run = keys[event.key];
      if (run) {
        event.preventDefault();
        run();
      }
    }
    document.addEventListener('keydown', pressed);
    return () => document.removeEventListener('keydown', pressed);
  }, [keys]);
}
