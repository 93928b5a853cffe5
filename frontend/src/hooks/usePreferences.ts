import { useCallback, useEffect, useState, useSyncExternalStore } from 'react';
import type { Language } from '../messages';
import { keep, recall } from '../utils/storage';

export type Theme = 'light' | 'dark';

/** The language chosen here, else the browser's; Korean or English. */
export function useLanguage(): [Language, (language: Language) => void] {
  const [language, setLanguage] = useState<Language>(() => {
    const kept = recall<Language>('language');
    if (kept === 'ko' || kept === 'en') return kept;
    return navigator.languages.find((code) => /^(ko|en)/.test(code))?.startsWith('ko')
      ? 'ko'
      : 'en';
  });
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  const choose = useCallback((next: Language) => {
    keep('language', next);
    setLanguage(next);
  }, []);
  return [language, choose];
}

const DARK = '(prefers-color-scheme: dark)';

/** The theme chosen here (public/preferences.js sets it before the first paint), else the system's. */
export function useTheme(): [Theme, (theme: Theme) => void] {
  const system = useSyncExternalStore(
    (changed) => {
      const media = window.matchMedia(DARK);
      media.addEventListener('change', changed);
      return () => media.removeEventListener('change', changed);
    },
    () => (window.matchMedia(DARK).matches ? 'dark' : 'light'),
  );
  const [chosen, setChosen] = useState<Theme | undefined>(() => recall<Theme>('theme'));
  const choose = useCallback((next: Theme) => {
    keep('theme', next);
    document.documentElement.dataset.theme = next;
    setChosen(next);
  }, []);
  return [chosen ?? system, choose];
}
