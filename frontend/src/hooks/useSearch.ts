import { useEffect, useState } from 'react';
import type { Language } from '../messages';
import type { Api } from '../services/api';
import type { MovieOut } from '../services/types';

const TYPING_MS = 200;

export interface Found {
  /** What was searched for; null while nothing is. */
  text: string | null;
  films: readonly MovieOut[] | null;
  failed: boolean;
}

const NOTHING: Found = { text: null, films: null, failed: false };

/** Films with the text in a title, asked for when the typing pauses; the last answer wins. */
export function useSearch(api: Api, typed: string, language: Language): Found {
  const [found, setFound] = useState<Found>(NOTHING);
  const text = typed.trim();
  useEffect(() => {
    if (!text) {
      setFound(NOTHING);
      return;
    }
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const { items } = await api.search(text, language, stop.signal);
        if (!stop.signal.aborted) setFound({ text, films: items, failed: false });
      } catch {
        if (!stop.signal.aborted) setFound({ text, films: null, failed: true });
      }
    }, TYPING_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [api, text, language]);
  return text ? found : NOTHING;
}
