import java.io.ByteArrayOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/** Reads Avro values (a line of hexadecimal digits each) by a reader's schema and writes them by it. */
public class Recode {
    public static void main(String[] arguments) throws Exception {
        Schema writer = new Schema.Parser().parse(Path.of(arguments[0]).toFile());
        Schema reader = new Schema.Parser().parse(Path.of(arguments[1]).toFile());
        GenericDatumReader<Object> in = new GenericDatumReader<>(writer, reader);
        GenericDatumWriter<Object> out = new GenericDatumWriter<>(reader);
        for (String line : Files.readAllLines(Path.of(arguments[2]))) {
            BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(HexFormat.of().parseHex(line), null);
            Object value = in.read(null, decoder);
            if (!decoder.isEnd()) {
                throw new IllegalStateException("bytes are left behind " + value);
            }
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(bytes, null);
            out.write(value, encoder);
            encoder.flush();
            System.out.println(HexFormat.of().formatHex(bytes.toByteArray()));
        }
    }
}
