// Another vendor's DDS: takes JointState from one topic of a domain and writes it to another, as long as its standard input is open.
// Every message is decoded and encoded anew by Fast CDR. Usage: echo <domain> <from> <to>; prints "ready", then how many it echoed.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <fastcdr/Cdr.h>
#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
#include <fastdds/dds/publisher/DataWriter.hpp>
#include <fastdds/dds/publisher/Publisher.hpp>
#include <fastdds/dds/subscriber/DataReader.hpp>
#include <fastdds/dds/subscriber/DataReaderListener.hpp>
#include <fastdds/dds/subscriber/SampleInfo.hpp>
#include <fastdds/dds/subscriber/Subscriber.hpp>
#include <fastdds/dds/topic/TopicDataType.hpp>
#include <fastdds/dds/topic/TypeSupport.hpp>
#include <fastdds/rtps/transport/UDPv4TransportDescriptor.h>
#include <fastrtps/utils/IPLocator.h>

using namespace eprosima::fastdds::dds;
namespace rtps = eprosima::fastrtps::rtps;
namespace cdr = eprosima::fastcdr;

struct JointState {
  int32_t sec = 0;
  uint32_t nanosec = 0;
  std::string frame;
  std::vector<std::string> name;
  std::vector<double> position, velocity, effort;

  void write(cdr::Cdr& out) const { out << sec << nanosec << frame << name << position << velocity << effort; }
  void read(cdr::Cdr& in) { in >> sec >> nanosec >> frame >> name >> position >> velocity >> effort; }
};

struct JointStateType : TopicDataType {
  JointStateType() {
    setName("sensor_msgs::msg::dds_::JointState_");
    m_typeSize = 1 << 16;
    auto_fill_type_object(false);
    auto_fill_type_information(false);
  }
  bool serialize(void* data, rtps::SerializedPayload_t* payload) override {
    cdr::FastBuffer buffer(reinterpret_cast<char*>(payload->data), payload->max_size);
    cdr::Cdr out(buffer, cdr::Cdr::LITTLE_ENDIANNESS, cdr::Cdr::DDS_CDR);
    payload->encapsulation = CDR_LE;
    out.serialize_encapsulation();
    static_cast<JointState*>(data)->write(out);
    payload->length = static_cast<uint32_t>(out.getSerializedDataLength());
    return true;
  }
  bool deserialize(rtps::SerializedPayload_t* payload, void* data) override {
    cdr::FastBuffer buffer(reinterpret_cast<char*>(payload->data), payload->length);
    cdr::Cdr in(buffer, cdr::Cdr::LITTLE_ENDIANNESS, cdr::Cdr::DDS_CDR);
    in.read_encapsulation();
    static_cast<JointState*>(data)->read(in);
    return true;
  }
  std::function<uint32_t()> getSerializedSizeProvider(void*) override {
    return [this] { return m_typeSize; };
  }
  void* createData() override { return new JointState; }
  void deleteData(void* data) override { delete static_cast<JointState*>(data); }
  bool getKey(void*, rtps::InstanceHandle_t*, bool) override { return false; }
};

struct Echo : DataReaderListener {
  DataWriter* writer = nullptr;
  long count = 0;
  JointState message;
  void on_data_available(DataReader* reader) override {
    SampleInfo info;
    while (reader->take_next_sample(&message, &info) == ReturnCode_t::RETCODE_OK)
      if (info.valid_data && writer->write(&message)) ++count;
  }
};

// Loopback only: no other transport, no multicast, and others are looked for here alone.
DomainParticipantQos loopback() {
  DomainParticipantQos qos = PARTICIPANT_QOS_DEFAULT;
  auto udp = std::make_shared<eprosima::fastdds::rtps::UDPv4TransportDescriptor>();
  udp->interfaceWhiteList = {"127.0.0.1"};
  qos.transport().user_transports.push_back(udp);
  qos.transport().use_builtin_transports = false;
  rtps::Locator_t here;
  rtps::IPLocator::setIPv4(here, "127.0.0.1");
  qos.wire_protocol().builtin.metatrafficUnicastLocatorList.push_back(here);
  qos.wire_protocol().builtin.initialPeersList.push_back(here);
  return qos;
}

int main(int, char** given) {
  auto* participant = DomainParticipantFactory::get_instance()->create_participant(std::atoi(given[1]), loopback());
  TypeSupport type(new JointStateType);
  type.register_type(participant);
  Topic* from = participant->create_topic(given[2], type.get_type_name(), TOPIC_QOS_DEFAULT);
  Topic* to = participant->create_topic(given[3], type.get_type_name(), TOPIC_QOS_DEFAULT);
  DataWriterQos writing = DATAWRITER_QOS_DEFAULT;
  writing.history().depth = 1000;
  writing.publish_mode().kind = SYNCHRONOUS_PUBLISH_MODE;
  DataReaderQos reading = DATAREADER_QOS_DEFAULT;
  reading.reliability().kind = RELIABLE_RELIABILITY_QOS;
  reading.history().depth = 1000;
  Echo echo;
  echo.writer = participant->create_publisher(PUBLISHER_QOS_DEFAULT)->create_datawriter(to, writing);
  participant->create_subscriber(SUBSCRIBER_QOS_DEFAULT)->create_datareader(from, reading, &echo);
  std::printf("ready\n");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  participant->delete_contained_entities();
  DomainParticipantFactory::get_instance()->delete_participant(participant);
  std::printf("%ld\n", echo.count);
}
