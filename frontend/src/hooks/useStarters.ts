import { useEffect, useState } from 'react';
import type { Language } from '../messages';
import type { Api } from '../services/api';
import type { RecommendedMovie } from '../services/types';
import { spread } from '../utils/format';

const POPULAR = 60;
const SHOWN = 12;
const BELOW = 10; // the most popular ones stand in the list below the row

/** Popular films of many genres for a newcomer to start from; empty until they are there. */
export function useStarters(api: Api, wanted: boolean, language: Language): RecommendedMovie[] {
  const [films, setFilms] = useState<RecommendedMovie[]>([]);
  useEffect(() => {
    if (!wanted) return;
    let over = false;
    api.recommendations({ userId: null, language, k: POPULAR }).then(
      ({ value }) => !over && setFilms(spread(value.items.slice(BELOW), SHOWN)),
      () => {}, // the list itself says that the API is gone
    );
    return () => {
      over = true;
    };
  }, [api, wanted, language]);
  return films;
}
