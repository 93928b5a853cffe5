import { useEffect, useState } from 'react';
import type { Told } from '../hooks/useViewerList';
import { useMessages } from '../messages';

export const UNDO_MS = 5_000;
const SHOWN = 3;

interface UndoBarProps {
  told: readonly Told[];
  failed: boolean;
  onUndo(told: Told): void;
  onOver(eventId: string): void;
}

/** What was just said, each for five seconds; pointing at it or focusing it stops the clock. */
export function UndoBar({ told, failed, onUndo, onOver }: UndoBarProps) {
  const messages = useMessages();
  const [held, setHeld] = useState(false);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: holds the clock, does nothing itself
    <div
      className="undo-bar"
      onPointerEnter={() => setHeld(true)}
      onPointerLeave={() => setHeld(false)}
      onFocus={() => setHeld(true)}
      onBlur={() => setHeld(false)}
    >
      <div role="status">
        {failed && <p className="undo undo-failed">{messages.undoFailed}</p>}
        {told.slice(-SHOWN).map((one) => (
          <Undo key={one.eventId} told={one} held={held} onUndo={onUndo} onOver={onOver} />
        ))}
      </div>
    </div>
  );
}

interface UndoProps extends Pick<UndoBarProps, 'onUndo' | 'onOver'> {
  told: Told;
  held: boolean;
}

function Undo({ told, held, onUndo, onOver }: UndoProps) {
  const messages = useMessages();
  useEffect(() => {
    if (held) return;
    const timer = setTimeout(() => onOver(told.eventId), UNDO_MS);
    return () => clearTimeout(timer);
  }, [held, told.eventId, onOver]);
  return (
    <p className="undo">
      <span>{messages.done[told.taste](told.title)}</span>
      <button type="button" onClick={() => onUndo(told)}>
        {messages.undo}
      </button>
    </p>
  );
}
