import type { ReactNode, Ref } from 'react';
import type { Theme } from '../hooks/usePreferences';
import { type Language, useMessages } from '../messages';
import { Icon } from './Icon';

interface LayoutProps {
  language: Language;
  onLanguage(language: Language): void;
  theme: Theme;
  onTheme(theme: Theme): void;
  search: string;
  onSearch(text: string): void;
  searchRef: Ref<HTMLInputElement>;
  viewerSwitch: ReactNode;
  footer: ReactNode;
  children: ReactNode;
}

/** Header, main part, footer. */
export function Layout(props: LayoutProps) {
  const { language, theme, search, onSearch } = props;
  const messages = useMessages();
  const other = language === 'ko' ? 'en' : 'ko';
  const opposite = theme === 'dark' ? 'light' : 'dark';
  return (
    <>
      <a className="skip" href="#main">
        {messages.skipToList}
      </a>
      <header className="header">
        <div className="header-row">
          <a className="brand" href="/">
            movie<i>-</i>mlops
          </a>
          <search className="search">
            <Icon name="search" />
            <input
              ref={props.searchRef}
              type="search"
              value={search}
              maxLength={100}
              placeholder={messages.searchHint}
              aria-label={messages.search}
              autoComplete="off"
              onChange={(event) => onSearch(event.target.value)}
              onKeyDown={(event) => event.key === 'Escape' && onSearch('')}
            />
            {search && (
              <button
                type="button"
                className="icon-button"
                aria-label={messages.clearSearch}
                onClick={() => onSearch('')}
              >
                <Icon name="close" />
              </button>
            )}
          </search>
          <button
            type="button"
            className="text-button"
            lang={other}
            aria-label={messages.switchLanguage}
            onClick={() => props.onLanguage(other)}
          >
            {messages.switchLanguageShort}
          </button>
          <button
            type="button"
            className="icon-button"
            aria-label={opposite === 'dark' ? messages.toDark : messages.toLight}
            onClick={() => props.onTheme(opposite)}
          >
            <Icon name={opposite === 'dark' ? 'moon' : 'sun'} />
          </button>
          {props.viewerSwitch}
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {props.children}
      </main>
      <footer className="footer">{props.footer}</footer>
    </>
  );
}
