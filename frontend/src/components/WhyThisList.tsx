import { useMessages } from '../messages';
import type { ModelInfo, Recommendations } from '../services/types';
import { milliseconds as shown } from '../utils/format';

interface WhyThisListProps {
  list: Recommendations;
  milliseconds: number | null;
  model: ModelInfo | null;
}

/** One quiet line about what made the list; opened, it says more. */
export function WhyThisList({ list, milliseconds, model }: WhyThisListProps) {
  const messages = useMessages();
  const none = list.path === 'static';
  const version = none
    ? messages.noModel
    : [model?.algorithm, messages.version(list.model_version)].filter(Boolean).join(' ');
  const time = milliseconds === null ? null : messages.milliseconds(shown(milliseconds));
  const line = [
    messages.path[list.path],
    version,
    list.snapshot && messages.snapshot(list.snapshot),
    time,
  ];
  return (
    <details className="why">
      <summary title={messages.why}>{line.filter(Boolean).join(' · ')}</summary>
      <h2>{messages.why}</h2>
      <dl>
        <dt>{messages.whyPath}</dt>
        <dd>
          {messages.path[list.path]}
          <small>{messages.pathMeaning[list.path]}</small>
        </dd>
        <dt>{messages.whyModel}</dt>
        <dd>{version}</dd>
        <dt>{messages.whySnapshot}</dt>
        <dd>{list.snapshot || messages.none}</dd>
        <dt>{messages.whyRequest}</dt>
        <dd>
          <code>{list.request_id}</code>
        </dd>
        {time && (
          <>
            <dt>{messages.whyTime}</dt>
            <dd>
              {time}
              <small>{messages.whyTimeMeaning}</small>
            </dd>
          </>
        )}
      </dl>
    </details>
  );
}
