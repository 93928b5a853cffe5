import { useCallback, useMemo, useRef, useState } from 'react';
import { Layout } from '../components/Layout';
import { nameOf, ViewerSwitch } from '../components/ViewerSwitch';
import { useKeys } from '../hooks/useKeys';
import { usePeople } from '../hooks/usePeople';
import { useLanguage, useTheme } from '../hooks/usePreferences';
import { useViewer } from '../hooks/useViewer';
import { LanguageContext, MESSAGES } from '../messages';
import type { Api } from '../services/api';
import { ViewerSection } from './ViewerSection';

/** The viewer's page: header, one viewer's list, footer. */
export function HomePage({ api }: { api: Api }) {
  const [language, setLanguage] = useLanguage();
  const [theme, setTheme] = useTheme();
  const { people, asked } = usePeople(api);
  const { viewer, newcomer, becomePerson, becomeNewcomer, noteLiked } = useViewer(people, asked);
  const [search, setSearch] = useState('');
  const [tmdb, setTmdb] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const messages = MESSAGES[language];

  useKeys(useMemo(() => ({ '/': () => input.current?.focus() }), []));

  const switchTo = useCallback((change: () => void) => {
    setSearch('');
    change();
    window.scrollTo({ top: 0 });
  }, []);

  const known = viewer && 'person' in viewer ? viewer.person : null;
  const userId = known?.user_id ?? (viewer && newcomer.id);

  return (
    <LanguageContext value={language}>
      <Layout
        language={language}
        onLanguage={setLanguage}
        theme={theme}
        onTheme={setTheme}
        search={search}
        onSearch={setSearch}
        searchRef={input}
        viewerSwitch={
          <ViewerSwitch
            viewer={viewer}
            people={people}
            language={language}
            newcomerKnown={newcomer.liked.length > 0}
            onPerson={(person) => switchTo(() => becomePerson(person))}
            onNewcomer={(again) => switchTo(() => becomeNewcomer(again))}
          />
        }
        footer={
          <>
            <p>
              {messages.source} · <a href={api.picture('/docs')}>{messages.apiDocs}</a> ·{' '}
              <a href={api.picture('/health')}>{messages.health}</a>
            </p>
            {tmdb && (
              <p>
                {messages.tmdb}
                <a href="https://www.themoviedb.org">TMDB</a>
              </p>
            )}
            <p className="keys">{messages.keys}</p>
          </>
        }
      >
        <ViewerSection
          key={userId ?? ''}
          api={api}
          userId={userId}
          name={known ? nameOf(known, language) : messages.newViewerInTitle}
          newcomer={known || !viewer ? null : newcomer}
          onLiked={noteLiked}
          language={language}
          search={search}
          simulated={people?.simulated ?? false}
          onTmdb={setTmdb}
        />
      </Layout>
    </LanguageContext>
  );
}
