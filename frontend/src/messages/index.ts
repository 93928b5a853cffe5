import { createContext, use } from 'react';
import { en, type Messages } from './en';
import { ko } from './ko';

export type Language = 'ko' | 'en';
export type { Messages };

export const MESSAGES: Readonly<Record<Language, Messages>> = { ko, en };

export const LanguageContext = createContext<Language>('en');

/** The words of the page's language. */
export function useMessages(): Messages {
  return MESSAGES[use(LanguageContext)];
}
