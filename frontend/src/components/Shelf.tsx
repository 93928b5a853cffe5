import { type KeyboardEvent, useCallback, useId, useLayoutEffect, useRef, useState } from 'react';
import { useMessages } from '../messages';
import { isStill } from '../utils/transition';
import { CardGrid, type CardGridProps, CardSkeletons } from './CardGrid';
import { Icon } from './Icon';

const PAGE = 0.8; // of the width, so that the last card seen stays in sight
const STEPS: Readonly<Record<string, number>> = { ArrowLeft: -1, ArrowRight: 1 };

/** Films in one row to scroll through; arrow keys go from card to card. */
export function Shelf(props: Omit<CardGridProps, 'shelf'>) {
  const { films, label } = props;
  const id = useId();
  const shelf = useRef<HTMLElement>(null);
  const [ends, setEnds] = useState({ back: true, on: true });

  const measure = useCallback(() => {
    const row = shelf.current?.querySelector('ul');
    if (!row) return;
    const back = row.scrollLeft <= 1;
    const on = row.scrollLeft >= row.scrollWidth - row.clientWidth - 1;
    setEnds((before) => (before.back === back && before.on === on ? before : { back, on }));
  }, []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: other films may need another width
  useLayoutEffect(() => {
    measure();
    window.addEventListener('resize', measure);
    return () => window.removeEventListener('resize', measure);
  }, [films, measure]);

  function scroll(pages: number) {
    const row = shelf.current?.querySelector('ul');
    const behavior = isStill() ? 'instant' : 'smooth';
    row?.scrollBy({ left: pages * row.clientWidth, behavior });
  }

  function step(event: KeyboardEvent<HTMLElement>) {
    const button = event.target as HTMLElement;
    const cards = [...(shelf.current?.querySelectorAll('[data-film]') ?? [])];
    const place = cards.findIndex((card) => card.contains(button));
    const card = cards[place + (STEPS[event.key] ?? 0)];
    if (place < 0 || !card || card.contains(button)) return;
    event.preventDefault(); // the row scrolls to what has the focus
    card.querySelector<HTMLElement>(`[data-act="${button.dataset.act}"]`)?.focus();
  }

  return (
    <section
      ref={shelf}
      className="shelf"
      aria-labelledby={id}
      onKeyDown={step}
      onScrollCapture={measure}
    >
      <div className="shelf-head">
        <h2 id={id}>{label}</h2>
        {!(ends.back && ends.on) && (
          <div className="shelf-arrows">
            <Arrow name="back" of={label} end={ends.back} onPress={() => scroll(-PAGE)} />
            <Arrow name="on" of={label} end={ends.on} onPress={() => scroll(PAGE)} />
          </div>
        )}
      </div>
      <CardGrid {...props} shelf />
    </section>
  );
}

interface ArrowProps {
  name: 'back' | 'on';
  of: string;
  end: boolean;
  onPress(): void;
}

/** For the mouse; the keyboard walks the cards themselves. */
function Arrow({ name, of, end, onPress }: ArrowProps) {
  const messages = useMessages();
  return (
    <button
      type="button"
      className="icon-button"
      tabIndex={-1}
      aria-label={messages.shelf[name](of)}
      aria-disabled={end}
      onClick={onPress}
    >
      <Icon name={name} />
    </button>
  );
}

/** Shelves to come, of the size of those that come. */
export function ShelfSkeletons({ count }: { count: number }) {
  const messages = useMessages();
  return Array.from({ length: count }, (_, place) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: they are all alike
    <div key={place} className="shelf">
      <div className="shelf-head skeleton">
        <div className="bar" />
      </div>
      <CardSkeletons count={8} label={messages.shelfLoading} shelf />
    </div>
  ));
}
