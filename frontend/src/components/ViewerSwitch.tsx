import { useRef } from 'react';
import type { Viewer } from '../hooks/useViewer';
import { type Language, useMessages } from '../messages';
import type { PeopleOut, PersonOut } from '../services/types';
import { Icon } from './Icon';

interface ViewerSwitchProps {
  viewer: Viewer | null;
  people: PeopleOut | null;
  language: Language;
  newcomerKnown: boolean;
  onPerson(userId: string): void;
  onNewcomer(again: boolean): void;
}

export const SWITCH_ID = 'people';

export function nameOf(person: PersonOut, language: Language): string {
  return language === 'ko' ? person.name_ko : person.name;
}

/** The button with the viewer's name, and the people one can be instead. */
export function ViewerSwitch(props: ViewerSwitchProps) {
  const { viewer, people, language, newcomerKnown, onPerson, onNewcomer } = props;
  const messages = useMessages();
  const panel = useRef<HTMLDivElement>(null);
  const current = viewer && 'person' in viewer ? viewer.person : null;
  const name = current ? nameOf(current, language) : viewer ? messages.newViewer : '…';

  function choose(change: () => void) {
    panel.current?.hidePopover();
    change();
  }

  return (
    <div className="switch">
      <button
        type="button"
        className="switch-button"
        popoverTarget={SWITCH_ID}
        aria-label={messages.viewer(name)}
      >
        <Avatar name={name} seed={current?.user_id ?? ''} />
        <span className="switch-name">{name}</span>
        <Icon name="down" />
      </button>
      <div
        ref={panel}
        id={SWITCH_ID}
        popover="auto"
        className="people"
        role="dialog"
        aria-label={messages.people}
      >
        <div className="people-head">
          <h2>{messages.people}</h2>
          <button
            type="button"
            className="icon-button"
            popoverTarget={SWITCH_ID}
            popoverTargetAction="hide"
            aria-label={messages.close}
          >
            <Icon name="close" />
          </button>
        </div>
        {people && <p>{people.simulated ? messages.peopleSimulated : messages.peopleReal}</p>}
        <ul>
          <li>
            <button
              type="button"
              className="person"
              aria-current={viewer !== null && current === null}
              onClick={() => choose(() => onNewcomer(false))}
            >
              <Avatar name="+" seed="" />
              <span>
                <b>{messages.becomeNew}</b>
                <small>{messages.becomeNewHint}</small>
              </span>
            </button>
          </li>
          {newcomerKnown && (
            <li>
              <button
                type="button"
                className="person"
                onClick={() => choose(() => onNewcomer(true))}
              >
                <Avatar name="↺" seed="" />
                <span>
                  <b>{messages.startAgain}</b>
                </span>
              </button>
            </li>
          )}
          {people?.items.map((person) => (
            <li key={person.user_id}>
              <button
                type="button"
                className="person"
                aria-current={person.user_id === current?.user_id}
                onClick={() => choose(() => onPerson(person.user_id))}
              >
                <Avatar name={nameOf(person, language)} seed={person.user_id} />
                <span>
                  <b>{nameOf(person, language)}</b>
                  <small>{language === 'ko' ? person.taste_ko : person.taste}</small>
                </span>
              </button>
            </li>
          ))}
        </ul>
      </div>
    </div>
  );
}

function Avatar({ name, seed }: { name: string; seed: string }) {
  let hue = 0;
  for (const letter of seed) hue = (hue * 31 + letter.charCodeAt(0) * 47) % 360;
  return (
    <span
      className="avatar"
      aria-hidden="true"
      data-initial={Array.from(name)[0]}
      {...(seed && { style: { '--hue': hue } as React.CSSProperties })}
    />
  );
}
