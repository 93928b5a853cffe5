import { useState } from 'react';
import { useMessages } from '../messages';

interface PosterProps {
  url: string | null;
  title: string;
  /** In the first screen: load at once. */
  first?: boolean;
}

/** A picture of fixed shape; where it cannot be had, the title stands in its place. */
export function Poster({ url, title, first = false }: PosterProps) {
  const messages = useMessages();
  const [broken, setBroken] = useState<string | null>(null);
  const missing = url === null || broken === url;
  return (
    <div className="poster">
      {missing ? (
        <div className="poster-missing">
          <span>{title}</span>
          <small>{messages.noPoster}</small>
        </div>
      ) : (
        <img
          src={url}
          alt=""
          width={200}
          height={300}
          decoding="async"
          loading={first ? 'eager' : 'lazy'}
          onError={() => setBroken(url)}
        />
      )}
    </div>
  );
}
