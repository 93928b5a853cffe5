import type { ReactNode } from 'react';

interface NoticeProps {
  text: string;
  action?: string;
  urgent?: boolean;
  onAction?(): void;
}

/** A line above the list: what is the matter, and what can be done. */
export function Notice({ text, action, urgent = false, onAction }: NoticeProps) {
  return (
    <div className="notice" role={urgent ? 'alert' : 'status'} data-urgent={urgent || undefined}>
      <p>{text}</p>
      {action && (
        <button type="button" onClick={onAction}>
          {action}
        </button>
      )}
    </div>
  );
}

/** What stands in the place of a list that is not there. */
export function Blank({ title, children }: { title: string; children: ReactNode }) {
  return (
    <div className="blank">
      <svg viewBox="0 0 120 60" aria-hidden="true">
        <path d="M10 50h100M22 50V34h16v16M44 50V34h16v16M66 50V34h16v16M88 50V34h12v16" />
        <path d="M18 8h84v16H18z" />
      </svg>
      <h2>{title}</h2>
      {children}
    </div>
  );
}
